"""What `toimik bench` is made of: made-up dossiers, a load generator in a process of its own, rounds of measuring."""
