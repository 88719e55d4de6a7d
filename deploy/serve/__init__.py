"""`tiffin serve`: artifacts behind HTTP, on starlette and uvicorn (extra `serve`).

protocol    the Open Inference Protocol's tensors, JSON and binary: bytes → feeds → bytes
batching    requests that wait are joined into one run
model       a loaded artifact: admission, batching, what its requests took
body        a request's body within its bounds: bytes, seconds, inflated size
app         the routes
metrics     what Prometheus reads
server      sockets, signals, slow clients, a graceful end
"""
