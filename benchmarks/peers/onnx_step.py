"""ONNX Runtime's and OpenVINO's side of a comparison: inference of an ONNX file that export.py made, with the commands of benchmarks/model_step.cpp.

    python3 benchmarks/peers/onnx_step.py --onnx resnet50.onnx --batch 16 [--openvino]

Images are given as [N, C, H, W], which the file wants. bf16 is a hint to OpenVINO; ONNX Runtime has no kernels for it on a CPU.
"""

import json
import os
import pathlib

import protocol


class Counted:
    """A peer whose file says what it counts."""

    def __init__(self, options):
        if options.work != "inference":
            raise ValueError("it runs inference only")
        self.options = options
        self.threads = options.threads or os.cpu_count()
        self.counts = json.loads(pathlib.Path(f"{options.onnx}.json").read_text())
        image = self.counts["image"]
        self.input = protocol.numpy_input((options.batch, image, image, 3)).transpose(0, 3, 1, 2).copy()

    def describe(self):
        o = self.options
        return {"peer": self.name, "version": self.version, "model": o.model, "work": o.work, "device": "cpu", "precision": o.precision} | self.counts

    def output(self):
        return {"output": self.run().ravel().tolist()}

    def steps(self, count):
        for _ in range(self.options.warmup):
            self.run()
        self.options.warmup = 0
        return protocol.timed_steps(self.run, count)


class OnnxRuntime(Counted):
    name = "ONNX Runtime"

    def __init__(self, options):
        import onnxruntime

        super().__init__(options)
        if options.precision != "f32":
            raise ValueError(f"ONNX Runtime has no {options.precision} kernels for a CPU")
        self.version = onnxruntime.__version__
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = self.threads
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(options.onnx, settings, providers=["CPUExecutionProvider"])

    def run(self):
        return self.session.run(None, {"images": self.input})[0]


class OpenVino(Counted):
    name = "OpenVINO"

    def __init__(self, options):
        import openvino

        super().__init__(options)
        self.version = openvino.__version__
        precision = {"f32": openvino.Type.f32, "bf16": openvino.Type.bf16}[options.precision]
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": self.threads, "INFERENCE_PRECISION_HINT": precision}
        compiled = openvino.Core().compile_model(options.onnx, "CPU", settings)
        self.request = compiled.create_infer_request()
        self.request.set_input_tensor(openvino.Tensor(self.input, shared_memory=True))

    def run(self):
        self.request.infer()
        return self.request.get_output_tensor().data


if __name__ == "__main__":
    chosen = protocol.options("--openvino", valued=["--onnx"])
    protocol.serve(OpenVino if chosen.openvino else OnnxRuntime, chosen)
