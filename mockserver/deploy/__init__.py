"""Many doubles behind a load balancer."""
