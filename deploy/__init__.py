"""Ways to run Maskmill: on one machine, with compose, on Kubernetes, under systemd."""
