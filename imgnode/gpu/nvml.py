"""Asks NVML itself, in this process: only the child (imgnode/gpu/__main__.py) may call this.

Each value is asked for by itself: a library that lacks a function, or a board that lacks a
feature, costs that value alone. What the functions return: NVML API Reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from imgnode.gpu.words import SWITCH, State

try:
    import pynvml
except ImportError:  # an image without a driver has none
    pynvml = None

_SLOWDOWNS = {  # nvmlClocksEventReasons: those that are no one's wish
    0x08: "hardware",
    0x20: "temperature (driver)",
    0x40: "temperature (hardware)",
    0x80: "power brake",
}
_THROTTLES = {  # the same, and what a person wished, as metrics name them
    "power_cap": 0x04,
    "hardware": 0x08,
    "thermal_software": 0x20,
    "thermal_hardware": 0x40,
    "power_brake": 0x80,
}
_FIELDS = {  # nvmlDeviceGetFieldValues: NVML_FI_DEV_…; links are summed up by the driver
    "memory_temperature": 82,
    "nvlink_crc_flit": 38,
    "nvlink_crc_data": 45,
    "nvlink_replay": 52,
    "nvlink_recovery": 59,
}
_PROFILE = re.compile(r"\bMIG (\S+)$")


class Gone(Exception):
    """The GPU does not answer any more."""


def inventory() -> Iterator[dict[str, Any]]:
    """Yield what is general, then each GPU, as imgnode/gpu/inventory.py takes them."""
    if pynvml is None:
        yield {"state": State.NO_BINDING}
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        yield {"state": _state(error), "detail": str(error)}
        return
    values: dict[str, Any] = {"state": State.OK}
    _ask(values, "driver", pynvml.nvmlSystemGetDriverVersion)
    _ask(values, "cuda", lambda: _version(pynvml.nvmlSystemGetCudaDriverVersion_v2()))
    try:
        values["count"] = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        yield {**values, "state": State.FAILED, "detail": str(error)}
        return
    yield values
    for index in range(values["count"]):
        yield device(index)
    pynvml.nvmlShutdown()


def device(index: int) -> dict[str, Any]:
    """Return one GPU; what it said before it was lost is kept."""
    values: dict[str, Any] = {"index": index, "errors": {}}
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        return {**values, "lost": str(error)}
    try:
        _identity(values, handle)
        _state_of(values, handle)
        _memory(values, handle)
        _mig(values, handle)
        values["links"] = _links(handle)
    except Gone as error:
        values["lost"] = str(error)
    return values


def open_driver() -> dict[str, Any] | None:
    """Take the driver up for samples; return None, or why it cannot be, as `inventory` says it."""
    if pynvml is None:
        return {"state": State.NO_BINDING}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return {"state": _state(error), "detail": str(error)}
    return None


def close_driver() -> None:
    """Let the driver go, however it is."""
    with suppress(pynvml.NVMLError):
        pynvml.nvmlShutdown()


def samples() -> dict[str, Any]:
    """Return what changes of all GPUs, after `open_driver`; units are NVML's.

    `lost` says why a GPU does not answer. What a board does not have is None.
    """
    values: dict[str, Any] = {"state": State.OK}
    _ask(values, "driver", pynvml.nvmlSystemGetDriverVersion)
    try:
        values["devices"] = [_sample(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        return {"state": State.FAILED, "detail": str(error)}
    return values


def _sample(index: int) -> dict[str, Any]:
    values: dict[str, Any] = {"index": index}
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        _names(values, handle)
        _load(values, handle)
        _errors(values, handle)
    except pynvml.NVMLError as error:
        values["lost"] = str(error)
    except Gone as error:
        values["lost"] = str(error)
    return values


def _names(values: dict[str, Any], handle: object) -> None:
    _ask(values, "uuid", lambda: pynvml.nvmlDeviceGetUUID(handle))
    _ask(values, "name", lambda: pynvml.nvmlDeviceGetName(handle))
    _ask(values, "address", lambda: _address(pynvml.nvmlDeviceGetPciInfo_v3(handle)))


def _load(values: dict[str, Any], handle: object) -> None:
    _ask(values, "utilization", lambda: pynvml.nvmlDeviceGetUtilizationRates(handle))
    if values["utilization"] is not None:
        both = values["utilization"]
        values |= {"utilization": both.gpu, "memory_utilization": both.memory}
    _ask(values, "memory", lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    if values["memory"] is not None:
        both = values["memory"]
        values |= {"memory": both.total, "memory_used": both.used}
    sensor, reasons = pynvml.NVML_TEMPERATURE_GPU, pynvml.nvmlDeviceGetCurrentClocksThrottleReasons
    _ask(values, "temperature", lambda: pynvml.nvmlDeviceGetTemperature(handle, sensor))
    _ask(values, "power", lambda: pynvml.nvmlDeviceGetPowerUsage(handle))
    _ask(values, "power_limit", lambda: pynvml.nvmlDeviceGetPowerManagementLimit(handle))
    _ask(values, "energy", lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    for key, clock in (("clock_sm", pynvml.NVML_CLOCK_SM), ("clock_memory", pynvml.NVML_CLOCK_MEM)):
        _ask(values, key, partial(pynvml.nvmlDeviceGetClockInfo, handle, clock))
    _ask(values, "reasons", lambda: reasons(handle))
    if values["reasons"] is not None:
        bits = values["reasons"]
        values["throttled"] = {name: bool(bits & bit) for name, bit in _THROTTLES.items()}
    running = pynvml.nvmlDeviceGetComputeRunningProcesses_v3
    _ask(values, "processes", lambda: len(running(handle)))


def _errors(values: dict[str, Any], handle: object) -> None:
    kinds = {
        "corrected": pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED,
        "uncorrected": pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
    }
    ecc = partial(pynvml.nvmlDeviceGetTotalEccErrors, handle)
    for name, kind in kinds.items():
        _ask(values, f"ecc_{name}", partial(ecc, kind, pynvml.NVML_VOLATILE_ECC))
        _ask(values, f"ecc_lifetime_{name}", partial(ecc, kind, pynvml.NVML_AGGREGATE_ECC))
    _ask(values, "rows", lambda: list(pynvml.nvmlDeviceGetRemappedRows(handle)))
    _ask(values, "pcie_replays", lambda: pynvml.nvmlDeviceGetPcieReplayCounter(handle))
    _ask(values, "pcie_width", lambda: pynvml.nvmlDeviceGetCurrPcieLinkWidth(handle))
    _ask(values, "pcie_generation", lambda: pynvml.nvmlDeviceGetCurrPcieLinkGeneration(handle))
    _ask(values, "fields", lambda: _fields(handle))


def _fields(handle: object) -> dict[str, int]:
    """Return those of _FIELDS that the board has."""
    answers = pynvml.nvmlDeviceGetFieldValues(handle, list(_FIELDS.values()))
    return {
        name: _number(one)
        for name, one in zip(_FIELDS, answers, strict=True)
        if one.nvmlReturn == pynvml.NVML_SUCCESS
    }


def _number(field: Any) -> int:  # noqa: ANN401 - a structure of ctypes
    narrow = field.valueType == pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
    return int(field.value.uiVal if narrow else field.value.ullVal)


def apply(index: int, key: str, value: int) -> str | None:
    """Set persistence (0, 1), power_limit (watts) or mig (0, 1) of one GPU; return what failed.

    MIG takes effect at once, or at the next reset where the board needs one.
    """
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        if key == "persistence":
            pynvml.nvmlDeviceSetPersistenceMode(handle, value)
        elif key == "power_limit":
            pynvml.nvmlDeviceSetPowerManagementLimit(handle, value * 1000)
        else:
            pynvml.nvmlDeviceSetMigMode(handle, value)
    except pynvml.NVMLError as error:
        return str(error)
    return None


def _identity(values: dict[str, Any], handle: object) -> None:
    _ask(values, "name", lambda: pynvml.nvmlDeviceGetName(handle))
    _ask(values, "uuid", lambda: pynvml.nvmlDeviceGetUUID(handle))
    _ask(values, "minor", lambda: pynvml.nvmlDeviceGetMinorNumber(handle))
    _ask(values, "memory", lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    _ask(values, "pci", lambda: pynvml.nvmlDeviceGetPciInfo_v3(handle))
    pci = values.pop("pci")
    if pci is not None:
        values["address"] = _address(pci)
        values["device_id"] = f"{pci.pciDeviceId & 0xFFFF:04x}:{pci.pciDeviceId >> 16:04x}"
    _ask(values, "pcie_width", lambda: pynvml.nvmlDeviceGetCurrPcieLinkWidth(handle))
    _ask(values, "pcie_width_max", lambda: pynvml.nvmlDeviceGetMaxPcieLinkWidth(handle))
    _ask(values, "pcie_gen", lambda: pynvml.nvmlDeviceGetCurrPcieLinkGeneration(handle))
    _ask(values, "pcie_gen_max", lambda: pynvml.nvmlDeviceGetMaxPcieLinkGeneration(handle))


def _state_of(values: dict[str, Any], handle: object) -> None:
    gpu = pynvml.NVML_TEMPERATURE_GPU
    _ask(values, "temperature", lambda: pynvml.nvmlDeviceGetTemperature(handle, gpu))
    _ask(values, "power", lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000)
    _ask(values, "power_limit", lambda: pynvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000)
    _ask(values, "persistence", lambda: bool(pynvml.nvmlDeviceGetPersistenceMode(handle)))
    running = pynvml.nvmlDeviceGetComputeRunningProcesses_v3
    _ask(values, "processes", lambda: len(running(handle)))
    reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons
    _ask(values, "slowdown", lambda: _slowdown(reasons(handle)))
    values["slowdown"] = values["slowdown"] or []


def _memory(values: dict[str, Any], handle: object) -> None:
    def errors(kind: int, since: int) -> Callable[[], int]:
        return lambda: int(pynvml.nvmlDeviceGetTotalEccErrors(handle, kind, since))

    _ask(values, "ecc_mode", lambda: pynvml.nvmlDeviceGetEccMode(handle))
    _split(values, "ecc_mode", ("ecc", bool), ("ecc_pending", bool))
    uncorrected = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
    corrected = pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED
    _ask(values, "ecc_volatile", errors(uncorrected, pynvml.NVML_VOLATILE_ECC))
    _ask(values, "ecc_aggregate", errors(uncorrected, pynvml.NVML_AGGREGATE_ECC))
    _ask(values, "ecc_corrected", errors(corrected, pynvml.NVML_VOLATILE_ECC))
    _ask(values, "rows", lambda: pynvml.nvmlDeviceGetRemappedRows(handle))
    rows = (("remapped_correctable", int), ("remapped_uncorrectable", int))
    _split(values, "rows", *rows, ("remap_pending", bool), ("remap_failed", bool))


def _mig(values: dict[str, Any], handle: object) -> None:
    _ask(values, "mig_mode", lambda: pynvml.nvmlDeviceGetMigMode(handle))
    _split(values, "mig_mode", ("mig", bool), ("mig_pending", bool))
    if not values.get("mig"):
        return
    _ask(values, "mig_devices", lambda: list(_mig_devices(handle)))
    values["mig_devices"] = values["mig_devices"] or []


def _mig_devices(handle: object) -> Iterator[dict[str, Any]]:
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            one = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except pynvml.NVMLError_NotFound:  # places without an instance
            continue
        match = _PROFILE.search(pynvml.nvmlDeviceGetName(one))
        yield {
            "uuid": pynvml.nvmlDeviceGetUUID(one),
            "profile": match[1] if match else None,
            "gi": pynvml.nvmlDeviceGetGpuInstanceId(one),
            "ci": pynvml.nvmlDeviceGetComputeInstanceId(one),
        }


def _links(handle: object) -> list[dict[str, Any]]:
    """Return the links that the GPU has; the driver refuses the numbers of those that it lacks."""
    found: list[dict[str, Any]] = []
    for number in range(pynvml.NVML_NVLINK_MAX_LINKS):
        values: dict[str, Any] = {"errors": {}}
        _ask(values, "active", partial(pynvml.nvmlDeviceGetNvLinkState, handle, number))
        if values["active"] is not None:
            remote = _remote(handle, number) if values["active"] else None
            found.append({"active": bool(values["active"]), "remote": remote})
    return found


def _remote(handle: object, number: int) -> str | None:
    values: dict[str, Any] = {"errors": {}}
    _ask(values, "type", lambda: pynvml.nvmlDeviceGetNvLinkRemoteDeviceType(handle, number))
    if values["type"] == pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
        return SWITCH
    _ask(values, "pci", lambda: pynvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, number))
    return _address(values["pci"]) if values["pci"] is not None else None


def _ask(values: dict[str, Any], key: str, question: Callable[[], Any]) -> None:
    """Put the answer into `values`, or None; raise Gone where the whole GPU is lost."""
    try:
        values[key] = question()
    except pynvml.NVMLError as error:
        values[key] = None
        if isinstance(error, pynvml.NVMLError_GpuIsLost | pynvml.NVMLError_ResetRequired):
            raise Gone(str(error)) from error
        if not isinstance(error, pynvml.NVMLError_NotSupported):
            values.setdefault("errors", {})[key] = str(error)


def _split(values: dict[str, Any], key: str, *parts: tuple[str, Callable[[Any], Any]]) -> None:
    answer = values.pop(key)
    if answer is not None:
        values |= {name: kind(one) for (name, kind), one in zip(parts, answer, strict=True)}


def _slowdown(reasons: int) -> list[str]:
    return [word for bit, word in _SLOWDOWNS.items() if reasons & bit]


def _address(pci: Any) -> str:  # noqa: ANN401 - a structure of ctypes
    """Return the address as sysfs writes it; NVML writes the domain with eight digits."""
    return f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0"


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _state(error: Any) -> State:  # noqa: ANN401 - a class that pynvml makes while it is imported
    return {
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: State.NO_LIBRARY,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED: State.NO_DRIVER,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: State.MISMATCH,
    }.get(error.value, State.FAILED)
