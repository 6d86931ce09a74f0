"""What needs neither a GPU nor the interpreter: kernels compile, the host is never waited for, no rate is assumed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from saekit.sae import triton as triton_kernels
from saekit.sae.triton import gate, plan
from saekit.sae.triton import reference as reference

from .triton_kernels import SMALL, adam, batch, decode, encode, weight_grads

SCRIPT = """
import json, sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from saekit.sae.triton import adam, batch, decode, encode, weight_grads
from saekit.sae.triton.plan import TILES

WEIGHTS = {"x_ptr": "*bf16", "w_ptr": "*bf16", "copy_ptr": "*bf16"}
INTEGERS = {"index_ptr": "*u8", "skip_ptr": "*i1"} | dict.fromkeys(
    "bound_ptr n_ties_ptr n_open_ptr row_group_ptr histogram_ptr above_ptr equal_ptr".split(), "*i32"
) | dict.fromkeys(
    "feature_ptr row_start_ptr state_ptr n_values_ptr position_ptr out_start_ptr length_ptr out_position_ptr token_ptr"
    " order_ptr start_ptr chunk_end_ptr chunk_feature_ptr partial_start_ptr step_ptr".split(), "*i64"
)

def built(target, kernel, warps, stages=3, **constants):
    signature, attributes = {}, {}
    for i, name in enumerate(kernel.arg_names):
        kind = (WEIGHTS | INTEGERS).get(name, "*fp32") if name.endswith("_ptr") else "i32"
        kind = {"lr": "fp32", "eps": "fp32"}.get(name, kind)
        signature[name] = "constexpr" if name in constants else kind
        if name not in constants and kind != "fp32":
            attributes[(i,)] = [["tt.divisibility", 16]]
    constants = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    done = compile(
        ASTSource(kernel, signature, constants, attributes), target=target,
        options={"num_warps": warps, "num_stages": stages},
    )
    return {"kernel": kernel.__name__, "shared": done.metadata.shared, "ptx": done.asm.get("ptx", "")}

def kernels(target, tile):
    make = lambda *args, **constants: built(target, *args, **constants)
    row = {"GROUPS": 1024}
    yield make(
        encode._candidates, tile.warps, tile.stages, TILE_N=tile.tile_n, TILE_F=tile.tile_f, TILE_K=tile.tile_k,
        STRIP=tile.strip, EVEN=True, PRECISION="ieee",
    )
    yield make(encode._choose, 4, **row)
    yield make(encode.complete, 4, ONE_BOUND=False, BLOCK_K=128, **row)
    yield make(encode._choose_again, 4, **row)
    for shift in batch.DIGITS:
        yield make(batch._histogram, 8, SHIFT=shift, BLOCK=batch.BLOCK)
        yield make(batch._descend, 4, SHIFT=shift)
    yield make(batch._count, 4, OF_GROUPS=True, **row)
    yield make(batch._count, 4, OF_GROUPS=False, **row)
    yield make(batch._list, 4, **row)
    yield make(batch._count_listed, 4, BLOCK=batch.BLOCK)
    yield make(batch._keep, 4, BLOCK=batch.BLOCK)
    yield make(decode._decode_error, 2, LISTED=False, LONG=False, BLOCK_K=32, BLOCK_D=64)
    yield make(decode._decode_error, 4, LISTED=True, LONG=True, BLOCK_K=64, BLOCK_D=64)
    yield make(decode._remaining_products, 4, LISTED=True, BLOCK_K=64, BLOCK_D=64)
    yield make(weight_grads._sum_chunks, 2, CHUNK=256, PAIRS=16, BLOCK_D=128)
    yield make(weight_grads._add_partials, 1, CHUNK=256, BLOCK_D=128)
    yield make(adam._adam, 4, BETA1=0.9, BETA2=0.999, UNIT=True, COPY=True, BLOCK=1024)
    yield make(adam._project, 4, BLOCK=1024)

if sys.argv[1] == "hopper":
    out = list(kernels(GPUTarget("cuda", 90, 32), TILES[0]))
else:
    out = list(kernels(GPUTarget("hip", "gfx942", 64), TILES[2]))
print(json.dumps(out))
"""


@pytest.mark.parametrize(("target", "room"), [("hopper", 232_448), ("mi300", 65_536)])
@pytest.mark.slow
def test_every_kernel_compiles_without_a_gpu_and_fits_its_memory(target, room, tmp_path):
    (tmp_path / "compiled.py").write_text(SCRIPT)
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, str(tmp_path / "compiled.py"), target]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    kernels = json.loads(done.stdout)
    sources = [Path(module.__file__).read_text() for module in (encode, batch, decode, weight_grads, adam)]
    defined = {name for source in sources for name in re.findall(r"@triton\.jit\ndef (\w+)", source)}
    assert {k["kernel"] for k in kernels} == defined - {
        "_moved",
        "_one_minus_power",
        "_pairs_of",
        "_gather",
    }  # parts of others
    assert all(k["shared"] <= room for k in kernels)
    if target == "hopper":
        product = kernels[0]["ptx"]
        assert "wgmma.mma_async" in product
        assert product.count("shfl.sync") <= 1  # the two largest of sixteen are found without exchange


@pytest.mark.slow
def test_importing_the_package_does_not_import_triton():
    script = "import sys, saekit.sae.triton as f; assert 'triton' not in sys.modules; assert not f.available('cpu')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_available_asks_for_the_device_and_for_triton(monkeypatch):
    assert not triton_kernels.available("cpu") and not triton_kernels.available("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not triton_kernels.available("cuda:1")  # there is none
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert triton_kernels.available("cpu")
    monkeypatch.setattr(gate, "has_triton", lambda: False)
    assert not triton_kernels.available("cpu")
    assert not triton_kernels.available("cuda")


def step(plans):
    """All a training step asks for, on tensors that have shapes and no numbers."""
    x, W, b, copy = torch.empty(6, 8), torch.empty(70, 8), torch.empty(70), torch.empty(70, 8).bfloat16()
    token = torch.arange(6).repeat_interleave(3)
    zero = torch.zeros(())
    for chosen in plans:
        value, feature = triton_kernels.top_k(x, W, b, 3, plan=chosen)
        value, position = triton_kernels.top_of_batch(x, W, b, 18, dtype=torch.bfloat16, plan=chosen)
        assert (value.shape, position.shape, feature.shape) == ((18,), (18,), (6, 3))
    error, d_value = triton_kernels.decode_error(feature, value.reshape(6, 3), W, x[0], x, dtype=torch.bfloat16)
    assert (error.shape, d_value.shape) == ((6, 8), (6, 3))
    start = torch.arange(7) * 3
    error, d_value = triton_kernels.decode_error_of_pairs(start, feature.reshape(-1), value, W, x[0], x)
    assert (error.shape, d_value.shape) == ((6, 8), (18,))
    sorted_ = triton_kernels.segments(feature, 70)
    assert triton_kernels.weight_grad(feature, value, error.bfloat16(), token, 70, sorted_=sorted_).shape == (70, 8)
    assert triton_kernels.segment_counts(feature, value, 70, sorted_=sorted_).shape == (70,)
    assert triton_kernels.project_(W, torch.empty(70, 8)).shape == ()
    triton_kernels.adam_(
        W,
        torch.empty(70, 8),
        torch.empty(70, 8),
        torch.empty(70, 8),
        lr=0.1,
        step=zero.long(),
        scale=zero,
        skip=zero > 0,
        unit_rows=True,
        copy=copy,
    )


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "references"])
def test_the_host_reads_no_number_from_the_device(kernels, monkeypatch):
    """Fake tensors raise for .item(), nonzero, boolean indexing: whatever depends on data."""
    with FakeTensorMode(), pytest.raises(Exception, match="nonzero"):
        torch.nonzero(torch.empty(3))
    if kernels:
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        for module in (encode, batch, decode, weight_grads, adam):
            monkeypatch.setattr(module, "launch", lambda *_, **__: None)
    with FakeTensorMode():
        step([SMALL, triton_kernels.Plan(kind="dense")])


def test_only_plans_that_can_work_are_tried():
    every = frozenset(p.label for p in plan.TILES)

    def tried(n, d_sae, k, dtype=torch.bfloat16, passed=every):
        return [p.kind for p in plan.candidates(n, d_sae, k, dtype, passed)]

    assert tried(16_384, 65_536, 64) == ["dense"] + ["fused"] * 4
    assert tried(16_384, 16_384, 32, passed=frozenset()) == ["dense"]
    assert tried(16_384, 16_384, 2000) == tried(4096, 10**6, 32) == ["dense"]
    assert tried(16_384, 16_384, 32, torch.float32) == ["dense"]
    assert len(every) == len(plan.TILES)


def test_no_rate_of_a_device_is_assumed():
    """Numbers of operations or bytes a second stand nowhere in the package: what is quicker is timed."""
    sources = [p.read_text() for p in sorted(Path(plan.__file__).parent.glob("*.py"))]
    assert [n for source in sources for n in re.findall(r"\b\d+(?:\.\d+)?e1\d\b|per_second|TFLOP", source)] == []


def test_references_cut_a_large_batch_into_pieces(monkeypatch):
    x, W, b = torch.randn(9, 5), torch.randn(30, 5), torch.randn(30)
    want = reference.top_k(x, W, b, 4)
    monkeypatch.setattr(reference, "CHUNK_ELEMENTS", 60)
    found = reference.top_k(x, W, b, 4)
    torch.testing.assert_close(found, want)
