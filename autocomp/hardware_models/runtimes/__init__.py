"""What a runtime does with a network on a chip: in which precision it executes a layer, how it stores tensors, what it
fuses, what it holds in memory and what it does beside the arithmetic.

``base`` has ``Runtime``, whose methods say what most compilers' runtimes do; ``ascend``, ``tensorrt``, ``lite`` and the
package ``onnxruntime`` each define one; ``registry`` finds the runtime of a device file. Read ``base`` first. It may
import ``lowered``, ``lookup`` and what lies below them; the rest of the model asks a device for its runtime.
"""
