"""Finding sperm in a picture: preprocessing, the network on three backends, NMS, weights, training.

Knows types, config, errors, progress and resources. ultralytics is imported in ``network`` alone, and torch
in ``network``, ``train`` and ``backend_torch`` alone: the ONNX Runtime and OpenVINO paths need neither.
"""

from casa.detect.detector import Detector, ModelInfo, load_detector
from casa.detect.stage import DetectStage

__all__ = ["DetectStage", "Detector", "ModelInfo", "load_detector"]
