"""Samplers by the names that each tool gives them -> schedulers here.

Only equal solvers are matched. Where the solver is here but the spacing of its steps is another, the solver is taken
and the difference is told. Our `dpmpp_sde` is A1111's `DPM++ 2M SDE`; its `DPM++ SDE` is a one-step solver, not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from composer.request import Spacing


@dataclass(frozen=True)
class Names:
    """One tool's names, in lower case."""

    solvers: Mapping[str, str]
    #: Spacings that mean "as the solver does by itself".
    own: frozenset[str]
    #: Solvers for which the tool's "automatic" is not the plain spacing.
    automatic: Mapping[str, str]
    #: Spacings that are one of ours, but for parts of a timestep.
    spacings: Mapping[str, Spacing] = field(default_factory=dict[str, Spacing])


A1111 = Names(
    {
        "ddim": "ddim",
        "euler": "euler",
        "euler a": "euler_a",
        "dpm++ 2m": "dpmpp_2m",
        "dpm++ 2m sde": "dpmpp_sde",
        "unipc": "unipc",
        "lcm": "lcm",
    },
    frozenset({"uniform", "normal"}),
    {"dpm++ 2m": "karras", "dpm++ 2m sde": "exponential"},
    {"sgm uniform": "trailing", "simple": "trailing"},
)
COMFYUI = Names(
    {
        "ddim": "ddim",
        "euler": "euler",
        "euler_ancestral": "euler_a",
        "dpmpp_2m": "dpmpp_2m",
        "dpmpp_2m_sde": "dpmpp_sde",
        "dpmpp_2m_sde_gpu": "dpmpp_sde",
        "uni_pc": "unipc",
        "lcm": "lcm",
    },
    frozenset({"normal", "ddim_uniform"}),
    {},
    {"sgm_uniform": "trailing", "simple": "trailing"},
)
INVOKEAI = Names(
    {
        "ddim": "ddim",
        "euler": "euler",
        "euler_a": "euler_a",
        "dpmpp_2m": "dpmpp_2m",
        "dpmpp_2m_sde": "dpmpp_sde",
        "unipc": "unipc",
        "lcm": "lcm",
    },
    frozenset(),
    {},
)
#: Solvers of other tools that are not here, in lower case: none of ours may be taken for them.
_ELSEWHERE = frozenset(
    "ddpm,deis,dpm adaptive,dpm fast,dpm2,dpm2 a,dpm_2,dpm_2_ancestral,dpm_adaptive,dpm_fast,dpm++ 2s a,dpm++ 3m sde,"
    "dpm++ sde,dpmpp_2s,dpmpp_2s_ancestral,dpmpp_3m,dpmpp_3m_sde,dpmpp_3m_sde_gpu,dpmpp_sde_gpu,er_sde,euler cfg++,"
    "heun,heunpp2,ipndm,ipndm_v,kdpm_2,kdpm_2_a,lms,plms,pndm,res_multistep,restart,tcd,uni_pc_bh2".split(",")
)
#: What A1111 calls our schedulers, with the spacing. Karras has a name of its own here.
_A1111_BY_SCHEDULER = {ours: theirs for theirs, ours in A1111.solvers.items()}
_CAPITALS = {
    "ddim": "DDIM",
    "euler": "Euler",
    "euler a": "Euler a",
    "unipc": "UniPC",
    "lcm": "LCM",
    "dpm++ 2m": "DPM++ 2M",
    "dpm++ 2m sde": "DPM++ 2M SDE",
}


@dataclass(frozen=True)
class Choice:
    """What another tool's sampler is here."""

    scheduler: str | None  # None: there is none like it
    remark: str | None = None  # what has to be said about the choice
    spacing: Spacing | None = None  # None: as the scheduler and the model have it


def translate(names: Names, sampler: str, schedule: str | None) -> Choice:
    """Return what a sampler is here."""
    solver, spacing = _split(sampler.lower(), (schedule or "").lower())
    ours = names.solvers.get(solver)
    if ours is None:
        return Choice(None, f"sampler {sampler[:80]!r}: there is none like it here; see `list schedulers`")
    if spacing == "automatic":
        spacing = names.automatic.get(solver, "")
    if spacing == "karras" and ours == "dpmpp_2m":
        return Choice("dpmpp_2m_karras")
    told = f"steps of sampler {sampler[:80]!r} spaced as {spacing[:80]!r}"
    if spacing in names.spacings and ours != "lcm":  # which has one way only, here and there
        own = names.spacings[spacing]
        return Choice(ours, f"{told}: spacing '{own}' is the same but for parts of a timestep", own)
    if spacing and spacing not in names.own:
        return Choice(ours, f"{told}: '{ours}' spaces them its own way")
    return Choice(ours)


def told(name: str) -> str:
    """Return what to say to somebody who asks for a scheduler by another tool's name; nothing if no tool has it."""
    for names in (A1111, COMFYUI, INVOKEAI):
        found = translate(names, name, None)
        if found.scheduler is not None:
            return f"here it is {found.scheduler!r}" + ("." if found.remark is None else f"; {found.remark}.")
    solver, spacing = _split(" ".join(name.lower().split()), "")
    if solver not in _ELSEWHERE:
        return ""
    also = "; 'dpmpp_sde' is A1111's DPM++ 2M SDE" if solver == "dpm++ sde" else ""
    near = "; with Karras spacing there is another solver, 'dpmpp_2m_karras'" if spacing == "karras" else ""
    return f"that solver is not here{also}{near}."


def for_a1111(scheduler: str, spacing: Spacing | None) -> tuple[str, str | None]:
    """Return what A1111 calls a scheduler, and its schedule type where it would choose another by itself."""
    if scheduler == "dpmpp_2m_karras":
        return "DPM++ 2M", "Karras"
    theirs = _A1111_BY_SCHEDULER.get(scheduler)
    if theirs is None:
        return scheduler, None
    if spacing == "trailing":
        return _CAPITALS[theirs], "SGM Uniform"
    return _CAPITALS[theirs], "Uniform" if theirs in A1111.automatic else None


def _split(sampler: str, schedule: str) -> tuple[str, str]:
    """Take a spacing off the sampler's name, where older A1111 and InvokeAI keep it."""
    for ending, spacing in ((" karras", "karras"), (" exponential", "exponential"), ("_k", "karras")):
        if sampler.endswith(ending):
            return sampler.removesuffix(ending), schedule or spacing
    return sampler, schedule
