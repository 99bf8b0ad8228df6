"""Programs as ONNX: a network that other runtimes run, and the IR as a picture."""
