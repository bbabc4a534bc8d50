"""The audit trail: what transactions say happened, as AuditEvents in a file, and in an outbox that is sent."""
