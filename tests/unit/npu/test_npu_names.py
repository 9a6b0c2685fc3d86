from __future__ import annotations

import pytest

from ascend_opentelemetry.npu.operators._names import collective, is_communication, is_unknown, operator_type, payload

HASH = "0f3a9c5d7e1b2a4c6d8e0f1a2b3c4d5e"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aclnnMm_MatMulCommon_MatMulV2", "MatMulV2"),
        ("aclnnTril_Tril_MemSet", "MemSet"),
        ("aclnnInplaceZero_ZerosLikeAiCore_ZerosLike", "ZerosLike"),
        ("aclnnAdd", "Add"),
        (f"MatMulV3_{HASH}_1", "MatMulV3"),
        (f"MatMulV3_{HASH}_12_mix_aic", "MatMulV3"),
        (f"FlashAttentionScore_{HASH}", "FlashAttentionScore"),
        ("trans_TransData_12", "TransData"),
        ("trans_Cast_5", "Cast"),
        ("Conv2DBackpropFilter10_MemSet", "MemSet"),
        ("Conv2D1", "Conv2D1"),
        ("StatelessDropOutGenMask/DSASTATELESSGENBITMASK", "DSASTATELESSGENBITMASK"),
        ("RmsNorm", "RmsNorm"),
        ("RmsNorm_3_1", "RmsNorm"),
        ("_12", "_12"),
        ("", "N/A"),
    ],
)
def test_the_type_of_an_operator_comes_from_its_name_where_none_is_recorded(name, kind) -> None:
    assert operator_type(name, "N/A") == kind
    assert operator_type(name, None) == kind
    assert operator_type(name, "") == kind


def test_a_recorded_type_is_taken_as_it_is() -> None:
    assert operator_type("NonZero_MemSet", "0") == "0"
    assert operator_type("aclnnMm_MatMulCommon_MatMulV2", "MatMulV2_x") == "MatMulV2_x"


def test_a_long_name_is_cut() -> None:
    assert operator_type("k" * 1000, None) == "k" * 128


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("hcom_allReduce__210_0_1", "allReduce"),
        ("hcom_allReduce_", "allReduce"),
        ("hcom_batchSendRecv__586_3_1@17522688603477080586", "batchSendRecv"),
        ("HcclAllGather_7", "HcclAllGather"),
        ("", "N/A"),
    ],
)
def test_a_collective_has_the_name_of_its_operation(name, operation) -> None:
    assert collective(name) == operation


def test_a_collective_is_known_by_its_core_or_its_name() -> None:
    assert is_communication("hcom_allReduce__1_2_1", "AI_VECTOR_CORE")
    assert is_communication("allReduceAicpuKernel", "HCCL")
    assert is_communication("x", "Communication")
    assert not is_communication("aclnnAdd_AddAiCore_Add", "AI_VECTOR_CORE")


def test_cells_that_say_nothing_are_unknown() -> None:
    assert [is_unknown(word) for word in (None, "", "N/A", "n/a", "NULL", "0", "MatMul")] == [True] * 5 + [False] * 2


def test_the_payload_is_elements_times_their_bytes() -> None:
    assert payload("FP32", 4097000) == 16388000
    assert payload("BFP16", 3) == 6
    assert payload("a new type", 3) == 0
    assert [payload("INT8", count) for count in (-1, 2**63, 2**64 - 1)] == [0, 0, 0]
