"""The server's tools, resources and prompts, with the official SDK (docs/decisions/0126)."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

from anyio import to_thread
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from mondrian_core.errors import BadInput, MondrianError
from mondrian_core.mcp_server.critics import Critic, WantedCritique
from mondrian_core.mcp_server.photograph_access import PhotographAccess
from mondrian_core.mcp_server.results import (
    AdvisorResult,
    AdvisorsResult,
    ComparisonResult,
    CritiqueResult,
    HistoryResult,
    comparison_result,
    critique_result,
)
from mondrian_core.registry import Registry
from mondrian_core.rubric import critique_json_schema
from mondrian_core.serving.http.pages import photograph_jpeg
from mondrian_core.serving.http.responses import job_json
from mondrian_core.serving.http.uploads import MAX_UPLOAD_BYTES, only_advisor
from mondrian_core.settings import Settings
from mondrian_core.store import COMPLETED, Job, Store
from mondrian_core.store.job_search import JobFilter, find_job_ids

EXPECTED_TOKENS = 600  # of a critique, for the share that is done
MAX_HISTORY = 100
INSTRUCTIONS = (
    "Critiques of photographs in one advisor's style: eight dimensions with a score from 0 to 10 and a comment, and an "
    "overall grade. A critique takes seconds to minutes and reports progress. Name a photograph by its path in an "
    "allowed folder, or send its bytes as base64. list_advisors says who can critique."
)
_MODE = "lora: the advisor's adapter; rag: base model and the advisor's portfolio; baseline: base model. Default: lora"
Mode = Annotated[Literal["lora", "rag", "baseline"] | None, Field(description=_MODE)]
Advisor = Annotated[str | None, Field(description="advisor ID; may be left out when there is only one")]
_MAKES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
_READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)


@dataclass(frozen=True)
class _Workspace:
    """What the tools work with."""

    settings: Settings
    access: PhotographAccess
    critic: Critic

    def advisor(self, given: str | None) -> str:
        with Store(self.settings.database, read_only=True) as store:
            return store.advisor(given).advisor if given else only_advisor(store)

    def job(self, job_id: str) -> Job | None:
        with Store(self.settings.database, read_only=True) as store:
            return store.job(job_id)

    def completed_job(self, job_id: str) -> Job:
        job = self.job(job_id)
        if job is None or job.status != COMPLETED:
            raise BadInput(f"There is no critique {job_id[:80]!r}.", "The tool history lists the critiques.")
        return job

    def advisors(self) -> AdvisorsResult:
        registry = Registry(self.settings.adapters_root)
        with Store(self.settings.database, read_only=True) as store:
            found = store.advisors()
        return AdvisorsResult(
            advisors=[
                AdvisorResult(
                    id=each.advisor, name=each.name, bio=each.bio, adapter_version=registry.current(each.advisor)
                )
                for each in found
            ]
        )

    def history(self, advisor: str | None, search: str, limit: int) -> HistoryResult:
        with Store(self.settings.database, read_only=True) as store:
            ids = find_job_ids(store, JobFilter(text=search, advisor=store.advisor(advisor).advisor if advisor else ""))
            jobs = [job for job_id in ids[:limit] if (job := store.job(job_id)) is not None]
        return HistoryResult(critiques=[critique_result(job_json(job)) for job in jobs], matching=len(ids))


def build_mcp_server(settings: Settings, access: PhotographAccess, critic: Critic) -> MCPServer:
    """The server for one workspace.

    Args:
        settings: workspace, registry and base model.
        access: the folders whose photographs may be read.
        critic: makes the critiques.
    """
    server = MCPServer("mondrian", title="Mondrian", instructions=INSTRUCTIONS, log_level="WARNING")
    workspace = _Workspace(settings, access, critic)
    _add_critique_tools(server, workspace)
    _add_reading_tools(server, workspace)
    _add_resources(server, workspace)
    _add_prompts(server)
    return server


def _add_critique_tools(server: MCPServer, workspace: _Workspace) -> None:
    @server.tool(title="Critique a photograph", annotations=_MAKES)
    async def critique(
        ctx: Context,
        photograph: Annotated[str | None, Field(description="path of a photograph in an allowed folder")] = None,
        image_base64: Annotated[str | None, Field(description="the file's bytes in base64, instead of a path")] = None,
        advisor: Advisor = None,
        mode: Mode = None,
    ) -> CritiqueResult:
        """Critique one photograph as the advisor would: scores from 0 to 10, comments and an overall grade."""
        with _tool_errors():
            wanted = await to_thread.run_sync(_wanted, workspace, photograph, image_base64, advisor, mode)
            return await _critique(ctx, workspace, wanted)

    @server.tool(title="Compare two photographs or critiques", annotations=_MAKES)
    async def compare(
        ctx: Context,
        first: Annotated[str, Field(description="ID of a critique, or path of a photograph in an allowed folder")],
        second: Annotated[str, Field(description="like first")],
        advisor: Advisor = None,
        mode: Mode = None,
    ) -> ComparisonResult:
        """Compare two critiques by dimension; a photograph that is named by its path is critiqued first."""
        with _tool_errors():
            found = []
            for text in (first, second):
                job = await to_thread.run_sync(workspace.job, text)
                if job is not None:
                    found.append(critique_result(job_json(await to_thread.run_sync(workspace.completed_job, text))))
                else:
                    wanted = await to_thread.run_sync(_wanted, workspace, text, None, advisor, mode)
                    found.append(await _critique(ctx, workspace, wanted))
            return comparison_result(*found)


def _wanted(
    workspace: _Workspace, photograph: str | None, image_base64: str | None, advisor: str | None, mode: str | None
) -> WantedCritique:
    if bool(photograph) == bool(image_base64):
        raise BadInput("Exactly one of photograph and image_base64 is needed.", "Send a path, or the file's bytes.")
    found = workspace.advisor(advisor)
    if photograph:
        return WantedCritique(advisor=found, mode=mode, path=workspace.access.resolve(photograph))
    text = image_base64 or ""
    if len(text) * 3 // 4 > MAX_UPLOAD_BYTES:
        raise BadInput(f"The image exceeds the limit of {MAX_UPLOAD_BYTES:,} bytes.", "Send a smaller copy.")
    try:
        data = base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput(f"image_base64 can't be decoded: {error}.", "Encode the file's bytes in base64.") from None
    return WantedCritique(advisor=found, mode=mode, data=data)


async def _critique(ctx: Context, workspace: _Workspace, wanted: WantedCritique) -> CritiqueResult:
    done = 0.0

    async def on_progress(tokens: int, what: str) -> None:
        nonlocal done
        done = max(done, min(tokens / EXPECTED_TOKENS, 0.99))  # a second try starts again, but progress never falls
        await ctx.report_progress(done, 1.0, what)

    job = await workspace.critic.critique(wanted, on_progress)
    await ctx.report_progress(1.0, 1.0, "completed")
    return critique_result(job)


def _add_reading_tools(server: MCPServer, workspace: _Workspace) -> None:
    @server.tool(title="Earlier critiques", annotations=_READS)
    async def history(
        advisor: Annotated[str | None, Field(description="advisor ID; default: all advisors")] = None,
        search: Annotated[str, Field(description="words in the file's name or in the critique", max_length=200)] = "",
        limit: Annotated[int, Field(ge=1, le=MAX_HISTORY)] = 20,
    ) -> HistoryResult:
        """List earlier critiques, newest first."""
        with _tool_errors():
            return await to_thread.run_sync(workspace.history, advisor, search, limit)

    @server.tool(title="Advisors", annotations=_READS)
    async def list_advisors() -> AdvisorsResult:
        """List the advisors who can critique, with the version of their adapter."""
        with _tool_errors():
            return await to_thread.run_sync(workspace.advisors)


def _add_resources(server: MCPServer, workspace: _Workspace) -> None:
    @server.resource("mondrian://schema", title="JSON schema of a critique", mime_type="application/json")
    def schema() -> str:
        """The JSON schema of the answer that a critique is made of."""
        return json.dumps(critique_json_schema(), indent=2)

    @server.resource("mondrian://advisors", title="Advisors", mime_type="application/json")
    def advisors() -> str:
        """The advisors of the workspace."""
        return workspace.advisors().model_dump_json(indent=2)

    @server.resource("mondrian://critiques/{critique_id}", title="A critique", mime_type="application/json")
    def one_critique(critique_id: str) -> str:
        """A critique with everything that is recorded about it."""
        with _resource_errors():
            return json.dumps(job_json(workspace.completed_job(critique_id)), indent=2, ensure_ascii=False)

    @server.resource("mondrian://critiques/{critique_id}/photograph", title="Its photograph", mime_type="image/jpeg")
    def its_photograph(critique_id: str) -> bytes:
        """The photograph of a critique as a JPEG without metadata."""
        with _resource_errors():
            return photograph_jpeg(workspace.settings.root, workspace.completed_job(critique_id))


def _add_prompts(server: MCPServer) -> None:
    @server.prompt(title="Critique and advise")
    def critique_photograph(photograph: str, advisor: str = "") -> str:
        """Critique a photograph, then say what to do differently next time."""
        who = f" by the advisor {advisor}" if advisor else ""
        return (
            f"Critique the photograph {photograph}{who} with the tool critique. Then say in plain words what works, "
            "and name the two changes that would improve it most. Quote the scores that support you."
        )

    @server.prompt(title="Look back")
    def review_progress(advisor: str = "") -> str:
        """Look for patterns in earlier critiques."""
        whose = f" by the advisor {advisor}" if advisor else ""
        return (
            f"Read my latest critiques{whose} with the tool history. In which dimensions do my photographs improve, "
            "and in which do the same remarks come back? Suggest one exercise for the weakest dimension."
        )


@contextmanager
def _tool_errors() -> Iterator[None]:
    """Errors as one paragraph that the calling model can read."""
    try:
        yield
    except MondrianError as error:
        raise ToolError(str(error)) from None
    except OSError as error:
        raise ToolError(f"The photograph can't be read: {error.strerror or error}.") from None


@contextmanager
def _resource_errors() -> Iterator[None]:
    try:
        yield
    except MondrianError as error:
        raise ResourceNotFoundError(str(error)) from None
