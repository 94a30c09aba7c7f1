"""Weights recovered from ONNX have the output of the exported network and can be trained."""

from __future__ import annotations

import onnx
import torch

from infarct.lab.networks import build
from infarct.lab.training.export_onnx import to_onnx
from infarct.lab.training.from_onnx import measure_batches, recover


def test_recovered_weights_keep_the_output_and_have_batch_statistics(tmp_path) -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    original = build("FCN_CH2", 2)
    with torch.no_grad():
        for module in original.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()
        for tensor in original.state_dict().values():
            if tensor.ndim > 1:
                tensor.copy_(tensor.half())  # as `checkpoint.rounded` does before export
    images = [torch.randn(2, 2, 16, 16, 16, generator=generator) for _ in range(3)]
    for _ in range(40):  # for the running statistics to converge
        for image in images:
            original(image)
    original.eval()
    onnx.save(to_onnx(original, "FCN_CH2"), tmp_path / "network.onnx")
    recovered = build("FCN_CH2", 2)
    recover(tmp_path / "network.onnx", recovered)
    with torch.no_grad():
        expected = original(images[0])[0]
        torch.testing.assert_close(recovered.eval()(images[0])[0], expected, atol=1e-4, rtol=1e-3)
        measure_batches(recovered, images)
        torch.testing.assert_close(recovered(images[0])[0], expected, atol=1e-4, rtol=1e-3)
        # In training mode, batch statistics also have the same effect as before.
        learned = torch.stack([original.train()(image)[0] for image in images])
        resumed = torch.stack([recovered.train()(image)[0] for image in images])
    assert torch.corrcoef(torch.stack([learned.flatten(), resumed.flatten()]))[0, 1] > 0.99
