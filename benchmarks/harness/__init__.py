"""What the scripts share: a running stack, a load generator, statistics, the report."""
