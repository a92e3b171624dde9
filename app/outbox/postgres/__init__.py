"""What only PostgreSQL needs, where several replicas share the outbox. The extra `postgres` brings the driver."""
