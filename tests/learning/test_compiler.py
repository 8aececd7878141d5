import subprocess
import sys

PROGRAM = """
import sys
from openmlops.learning import backbone, pretrained, transfer

assert pretrained.named("tf_efficientnet_lite0")["input_size"] == (3, 224, 224)
assert "torch._dynamo" not in sys.modules
from torchvision.ops import roi_align
import torch._dynamo

assert torch._dynamo.__file__ and callable(torch._dynamo.optimize)
assert torch.compiler.disable(len) is not len
print(roi_align.__globals__["is_compile_supported"]("cpu"))
"""


def test_the_compiler_is_not_imported_with_the_backbones_and_works_when_it_is() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() in ("True", "False")
