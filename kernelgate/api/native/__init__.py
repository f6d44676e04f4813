"""The native API, `/v1` (docs/api.md): sessions, contexts, executions, and one WebSocket for all of it."""
