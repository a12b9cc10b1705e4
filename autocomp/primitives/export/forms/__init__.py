"""ONNX forms of operators that few networks use, or that need several ONNX operators; ``onnx_operators`` lists them."""
