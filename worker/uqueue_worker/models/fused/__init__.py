"""The fused engine: one compiled kernel from features to means, deviations and stop decisions.

`plan` turns a graph into what the kernel runs, `vector_ir` holds the inner loops (in the words of `vector_code`, with
the activations of `vector_math`), `kernel` the algorithm, `plain_kernel` the same without vectors of our own,
`compiled` compiles and keeps them, `engine` is what the rest of the worker sees. numba is imported when a model is
loaded, not before.
"""
