"""ONNX files for an Ascend: the form that atc compiles, the form that its toolkit converts, and their rules.

Read ``layers`` first: how a layer in integers is written. ``deployable`` writes the form of the toolkit's deployable
models, ``training_form`` the form of a network that was trained with rounding. ``opset`` lowers a model to the
operators that both tools know. ``integer_form`` says with operators of ONNX what a deployable model computes: no Ascend
is needed to evaluate one. ``rules`` has the documented rules with their sources, ``checking`` holds a file to them.
"""
