"""Structures, selectors and error codes of ``libdcmi.so``, the Ascend device management interface.

Source: the headers ``dcmi_interface_api.h`` and ``dcmi_interface_api_v2.h`` that Ascend/mind-cluster publishes; sizes
are those of LP64. Names of fields are the headers'.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

#: Cards, devices and processes that a list has room for.
MAX_CARDS = 64
MAX_PROCESSES = 64
NAME_LENGTH = 32

#: A symbol that the library does not have; ours, as the clients of mind-cluster call it.
MISSING_SYMBOL = -99998
NOT_SUPPORTED = -8255
#: What stays as it is while the process runs.
PERMANENT = frozenset({NOT_SUPPORTED, MISSING_SYMBOL})

#: What may be otherwise in a while.
TRANSIENT = frozenset({-8006, -8012})

ERRORS: Mapping[int, str] = {
    -8001: "invalid parameter",
    -8002: "permission denied",
    -8005: "internal error of the driver",
    -8006: "timeout",
    -8008: "no such device",
    -8012: "the device is not ready",
    -8013: "not available in containers",
    NOT_SUPPORTED: "not supported",
    MISSING_SYMBOL: "not in this library",
}

#: Utilisation of a unit in percent; more than 100 is no value (0xEF while the device is profiled).
AICORE, AICPU, VECTOR, NPU, CUBE = 2, 3, 12, 13, 14
#: Kinds of memory that count ECC errors.
DDR_ECC, HBM_ECC = 0, 2
#: Health of a device that is not there; 0 is healthy, 1 a minor, 2 a major, 3 a critical alarm.
NO_HEALTH = 0xFFFFFFFF


class HbmInfo(ctypes.Structure):
    """MB, MHz, MB, degrees Celsius, percent."""

    _fields_ = (
        ("memory_size", ctypes.c_ulonglong),
        ("freq", ctypes.c_uint),
        ("memory_usage", ctypes.c_ulonglong),
        ("temp", ctypes.c_int),
        ("bandwith_util_rate", ctypes.c_uint),
    )


class MemoryInfo(ctypes.Structure):
    """MB, MB, MHz, KB, pages, pages, percent: DDR, or what a card has in place of it."""

    _fields_ = (
        ("memory_size", ctypes.c_ulonglong),
        ("memory_available", ctypes.c_ulonglong),
        ("freq", ctypes.c_uint),
        ("hugepagesize", ctypes.c_ulong),
        ("hugepages_total", ctypes.c_ulong),
        ("hugepages_free", ctypes.c_ulong),
        ("utiliza", ctypes.c_uint),
        ("reserve", ctypes.c_ubyte * 60),
    )


class MultiUtilization(ctypes.Structure):
    """Percent: cube cores, vector cores, both, and the whole NPU."""

    _fields_ = (
        ("aic_util", ctypes.c_uint),
        ("aiv_util", ctypes.c_uint),
        ("aicore_util", ctypes.c_uint),
        ("npu_util", ctypes.c_uint),
        ("reserved", ctypes.c_uint * 8),
    )


class ProcessMemory(ctypes.Structure):
    """A process, and the bytes that it holds on a device."""

    _fields_ = (("proc_id", ctypes.c_int), ("proc_mem_usage", ctypes.c_ulong))


class EccInfo(ctypes.Structure):
    """Counts since the start of the device, and over its life; with room for the longer of two published layouts."""

    _fields_ = (
        ("enable_flag", ctypes.c_int),
        ("single_bit_error_cnt", ctypes.c_uint),
        ("double_bit_error_cnt", ctypes.c_uint),
        ("total_single_bit_error_cnt", ctypes.c_uint),
        ("total_double_bit_error_cnt", ctypes.c_uint),
        ("single_bit_isolated_pages_cnt", ctypes.c_uint),
        ("double_bit_isolated_pages_cnt", ctypes.c_uint),
        ("reserved", ctypes.c_uint * 2),
    )


class ChipInfo(ctypes.Structure):
    """Of old drivers."""

    _fields_ = (
        ("chip_type", ctypes.c_char * NAME_LENGTH),
        ("chip_name", ctypes.c_char * NAME_LENGTH),
        ("chip_ver", ctypes.c_char * NAME_LENGTH),
        ("aicore_cnt", ctypes.c_uint),
    )


class ChipInfoV2(ctypes.Structure):
    """With the name that npu-smi prints."""

    _fields_ = (*ChipInfo._fields_, ("npu_name", ctypes.c_char * NAME_LENGTH))
