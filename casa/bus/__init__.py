"""The bus: typed messages over ZeroMQ between the engine, recorders, viewers and other programs.

docs/bus.md describes it for those who write a client. This part knows the types and the configuration, no stage.
"""
