"""The engine: makes k0s run the node's plan, and says how it is."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from kairos_core import (
    Disk,
    DiskState,
    Engine,
    EngineError,
    EngineState,
    EngineStatus,
    File,
    Finding,
    Kubectl,
    NodePlan,
    Preview,
    SecretStr,
    SupervisedService,
    Supervisor,
    Verdict,
    WantedService,
    ask_kubelet,
    converge_service,
    detect_supervisor,
    examine_kernel,
    server_health,
    with_server,
)
from kairos_engine_k0s.examination import examine_plans
from kairos_engine_k0s.journal import JOURNAL
from kairos_engine_k0s.launch import HOME, TOKEN, Launch, launch_of, launch_on
from kairos_engine_k0s.members import CONTROL_NODE, member_of, members, remove_member
from kairos_engine_k0s.preview import preview_of, showable
from kairos_engine_k0s.program import (
    MISSING,
    PLACES,
    admin_kubeconfig,
    create_tokens,
    find_program,
    install_program,
    program_version,
    reset,
)
from kairos_engine_k0s.settings import ControllerSettings, WorkerSettings
from kairos_engine_k0s.tokens import authority_of, format_tokens

_log = logging.getLogger(__name__)

TOKENS = f"{HOME.state}/tokens.json"
"""The tokens that others join with. They are made once: new ones at each start would be news to every node."""

ADMIN = "pki/admin.conf"
"""The administrator's kubeconfig in k0s' data directory; its server is where the API server listens on this machine."""

JOINED = {"controller": "pki/ca.key", "worker": "kubelet.conf"}
"""What k0s has in its data directory once it has joined in a role. Source: cmd/controller and pkg/component/worker."""


class K0sEngine(Engine):
    """k0s on this machine.

    Every `apply` compares what should run with what is on disk and with what the service was started with,
    and changes only what differs; no sentinel freezes a configuration. `root` is put before all paths.
    """

    def __init__(
        self,
        controller: ControllerSettings | None = None,
        worker: WorkerSettings | None = None,
        *,
        root: Path = Path("/"),
        supervisor: Supervisor | None = None,
    ) -> None:
        self._controller, self._worker = controller or ControllerSettings(), worker or WorkerSettings()
        self._root, self._disk = root, Disk(HOME, root)
        self._supervisor = supervisor or detect_supervisor(HOME, root)
        self._changing = asyncio.Lock()
        self._launch: Launch | None = None
        self._host: str | None = None
        self._program = ""
        self._kubeconfig: tuple[int, str] = (0, "")  # when k0s wrote it, and what it says of it

    async def installed(self) -> str | None:
        program = await asyncio.to_thread(find_program, self._root)
        return await program_version(program) if program else None

    async def apply(self, plan: NodePlan) -> None:
        launch = launch_of(plan, self._controller, self._worker)
        async with self._changing:
            await asyncio.to_thread(self._check_cluster, launch)
            program = await asyncio.to_thread(self._find_or_install)
            files = self._supervisor.files(launch.definition, program)
            state = await asyncio.to_thread(self._disk.state)
            if state.service and state.service != launch.service:
                await self._supervisor.stop(state.service)
            has_news = await asyncio.to_thread(self._has_news, launch)
            self._launch, self._program = launch, program
            self._host = plan.attachment.endpoint or plan.attachment.node_ip
            wanted = WantedService(
                name=launch.service,
                read_at_start=(*files, launch.configuration) if launch.configuration else files,
                read_later=(launch.token, *launch.manifests) if launch.token else launch.manifests,
                has_news=has_news,
                data_directory=launch.data_directory,
                health_port=launch.health_port,
            )
            await converge_service(self._supervisor, self._disk, wanted)

    async def status(self) -> EngineStatus:
        try:
            launch = self._launch or await asyncio.to_thread(launch_on, self._disk)
            if launch is None:
                return EngineStatus(EngineState.ABSENT)
            if not await self._supervisor.is_running(launch.service):
                return await self._trouble(launch, EngineState.FAILED, "k0s has ended")
            return await (self._controller_status(launch) if launch.is_controller else self._worker_status(launch))
        except EngineError as error:
            return EngineStatus(EngineState.FAILED, str(error))

    async def remove(self) -> None:
        async with self._changing:
            state = await asyncio.to_thread(self._disk.state)
            program = await asyncio.to_thread(find_program, self._root)
            if state.service:
                await self._supervisor.stop(state.service)
            if state.data_directory:
                await self._reset(program, self._disk.path(state.data_directory))
            for name in state.files:
                await asyncio.to_thread(self._disk.remove, name)
            await asyncio.to_thread(self._forget, state)
            self._launch, self._kubeconfig = None, (0, "")

    async def expel(self, node_name: str) -> None:
        """Drain the node, take its member out of etcd, and delete it.

        The member goes first, since the node tells its address; a controller without a kubelet is no node, and its
        member is known by its name. Source: docs.k0sproject.io, remove_controller.
        """
        state = await asyncio.to_thread(self._disk.state)
        program = await asyncio.to_thread(find_program, self._root)
        if program is None or state.service != "k0scontroller":
            raise EngineError(
                "only a k0s controller can take a node out of the cluster, and none runs on this machine."
            )
        data = self._disk.path(state.data_directory)
        kubectl = Kubectl((program, "kubectl", f"--kubeconfig={data / ADMIN}"))
        node = await kubectl.node(node_name)
        if node is not None:
            await kubectl.drain(node)
        member = member_of(await members(program, str(data)), node_name, node)
        if member is not None:
            await kubectl.delete(member.name, kind=CONTROL_NODE)
            await remove_member(program, str(data), member.address)
        if node is not None:
            await kubectl.delete(node.name)

    async def _reset(self, program: str | None, data: Path) -> None:
        """Let k0s remove what it made. It also tries to uninstall a service of its own, which may not be there."""
        if not await asyncio.to_thread(data.is_dir):
            return
        if program is None:
            raise EngineError(
                f"k0s is gone from this machine, and it alone knows how to remove what it left in {data}. Put k0s back "
                "into /usr/local/bin; or delete that directory after a reboot, when nothing is mounted there."
            )
        try:
            await reset(program, str(data))
        except EngineError as error:
            if await asyncio.to_thread(data.is_dir):
                raise
            _log.warning("k0s has removed its data, and complains: %s", error)

    def examine(self, plans: Sequence[NodePlan] = ()) -> Sequence[Finding]:
        program = find_program(self._root)
        if program is None and self._controller.install.source is None:
            found = Finding("k0s", Verdict.WRONG, "k0s is not installed", "put the k0s binary into /usr/local/bin")
        else:
            found = Finding("k0s", Verdict.OK, program or "is installed at the first start")
        blocks = self._controller, self._worker
        return found, *examine_kernel(self._root, {}), examine_plans(self._disk, plans, blocks)

    def preview(self, plan: NodePlan) -> Preview:
        program, plan = find_program(self._root) or PLACES[0], showable(plan)
        files = self._supervisor.files(launch_of(plan, self._controller, self._worker).definition, program)
        return preview_of(plan, (self._controller, self._worker), program, files)

    async def service(self) -> SupervisedService | None:
        service = await asyncio.to_thread(SupervisedService, self._supervisor, self._disk, JOURNAL.blotted)
        return service if service.name else None

    def _find_or_install(self) -> str:
        program = find_program(self._root)
        if program is not None:
            return program
        if self._controller.install.source is None:
            raise EngineError(MISSING)
        installed = install_program(self._controller.install.source, self._root)
        self._disk.remember(program=installed)
        return installed

    def _check_cluster(self, launch: Launch) -> None:
        """Refuse a token of another cluster than the one that this machine is in: k0s would go on in the old one.

        A worker keeps the authority of the first token that it tries, and keeps it if that one fails: such a rest of an
        attempt goes, or no right token could mend it.
        """
        kept = f"{launch.data_directory}/pki/ca.crt"
        authority = self._disk.read(kept)
        if not launch.token or not authority or authority.strip() == authority_of(launch.token.content).strip():
            return
        if any(self._disk.path(f"{launch.data_directory}/{name}").exists() for name in JOINED.values()):
            raise EngineError(
                "this machine is in another k0s cluster than the one that it is to join, and k0s keeps to the first. "
                f"If nothing of that is needed any more: stop {launch.service}, and run k0s reset."
            )
        self._disk.remove(kept)

    def _has_news(self, launch: Launch) -> bool:
        """Say whether k0s must be started afresh for its token: it reads it until it has joined, and never after."""
        if launch.token is None or self._disk.read(TOKEN) == launch.token.content:
            return False
        return not self._disk.path(f"{launch.data_directory}/{JOINED[launch.role]}").exists()

    def _forget(self, state: DiskState) -> None:
        """Remove the rest of what we made: a program that we installed, tokens, the log, and the record itself."""
        if state.program:
            Path(state.program).unlink(missing_ok=True)
        self._disk.remove(TOKENS)
        self._disk.forget()

    async def _controller_status(self, launch: Launch) -> EngineStatus:
        local = await asyncio.to_thread(self._disk.read, f"{launch.data_directory}/{ADMIN}")
        # What others are told is for the agent to make; in another process nobody asks for it.
        is_agent = self._launch is not None
        kubeconfig = await self._admin_kubeconfig(launch) if local and is_agent else local
        if not local or not kubeconfig:
            return await self._trouble(launch, EngineState.STARTING, "k0s is starting")
        health = await server_health(local)
        if health.trouble:
            return await self._trouble(launch, EngineState.STARTING, health.trouble)
        if launch.runs_pods and launch.node_name and launch.node_name not in health.nodes:
            return await self._trouble(launch, EngineState.STARTING, "the API server is ready, the kubelet is not")
        return EngineStatus(
            EngineState.READY,
            "k0s serves the cluster",
            join_token=format_tokens(await self._tokens(launch)) if launch.is_joinable and is_agent else None,
            kubeconfig=SecretStr(with_server(kubeconfig, self._host) if self._host else kubeconfig),
            nodes=health.nodes,
        )

    async def _worker_status(self, launch: Launch) -> EngineStatus:
        if await ask_kubelet(launch.health_port):
            return EngineStatus(EngineState.READY, "k0s runs as a worker of the cluster")
        return await self._trouble(launch, EngineState.STARTING, "k0s is joining the cluster")

    async def _admin_kubeconfig(self, launch: Launch) -> str:
        """Return the administrator's kubeconfig; k0s is asked again only when it has written a new one."""
        file = self._disk.path(f"{launch.data_directory}/{ADMIN}")
        try:
            written = file.stat().st_mtime_ns
        except OSError:
            return ""
        if self._kubeconfig[0] != written:
            self._kubeconfig = written, await admin_kubeconfig(self._program, self._data(launch))
        return self._kubeconfig[1]

    async def _tokens(self, launch: Launch) -> dict[str, str]:
        """Return the tokens that others join with; made anew when there are none of this cluster."""
        authority = await asyncio.to_thread(self._disk.read, f"{launch.data_directory}/pki/ca.crt")
        kept = await asyncio.to_thread(self._disk.read, TOKENS)
        if kept and _are_of(kept, authority or ""):
            tokens: dict[str, str] = json.loads(kept)
            return tokens
        made = await create_tokens(self._program, self._data(launch))
        await asyncio.to_thread(self._disk.write, File(TOKENS, json.dumps(made) + "\n"))
        return made

    def _data(self, launch: Launch) -> str:
        return str(self._disk.path(launch.data_directory))

    async def _trouble(self, launch: Launch, state: EngineState, message: str) -> EngineStatus:
        """Say what is amiss, in k0s' own words where its log has any; what no waiting mends is a failure."""
        secrets = [secret.get_secret_value() for secret in launch.environment.values()]
        secrets += [launch.token.content] if launch.token else []
        return JOURNAL.explained(EngineStatus(state, message), await self._supervisor.log(launch.service), secrets)


def _are_of(kept: str, authority: str) -> bool:
    """Say whether saved tokens are whole, and join the cluster of this authority."""
    try:
        tokens = json.loads(kept)
        return "worker" in tokens and all(authority_of(token).strip() == authority.strip() for token in tokens.values())
    except (ValueError, TypeError, AttributeError, EngineError):
        return False
