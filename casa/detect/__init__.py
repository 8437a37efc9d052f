"""Finding sperm in a picture: preprocessing, the network on four backends, NMS, weights, training.

Knows types, config, errors, progress and resources. ultralytics is imported in ``network`` alone, and torch
in ``network``, ``train`` and the backends for CUDA alone: the ONNX Runtime and OpenVINO paths need neither.
"""

from casa.detect.detector import Detector, ModelInfo
from casa.detect.load import load_detector
from casa.detect.stage import DetectStage

__all__ = ["DetectStage", "Detector", "ModelInfo", "load_detector"]
