"""wyoming-piper's own arguments in, wyoming-piper out, with one thread for its model.

Run by the interpreter that has wyoming-piper. onnxruntime starts a thread for each core of the
machine and pins each to its core, whatever `taskset` says: half of Piper would run on a core that
the other side of the comparison may not use.
"""

import runpy

import onnxruntime


def one_thread() -> onnxruntime.SessionOptions:
    options = _Options()
    options.intra_op_num_threads = 1
    return options


_Options = onnxruntime.SessionOptions
onnxruntime.SessionOptions = one_thread
runpy.run_module("wyoming_piper", run_name="__main__", alter_sys=True)
