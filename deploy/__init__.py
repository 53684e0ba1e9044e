"""Ways to run everything on one machine: `maskmill up`, and `maskmill demo` with inputs of its own."""
