"""What goes over the native protocol's WebSocket: messages, fields, audio and errors. No I/O."""
