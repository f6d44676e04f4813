"""HTTP and WebSocket: authentication, validation, routing, streaming. The only package that knows Tornado and status codes."""
