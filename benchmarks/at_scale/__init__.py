"""What `benchmarks.scale` measures with: a made-up source, a slow storage, instant workers, a process for each role."""
