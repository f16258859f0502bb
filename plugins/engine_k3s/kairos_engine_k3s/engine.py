"""The engine: makes k3s run the node's plan, and says how it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
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
    Role,
    SecretStr,
    SupervisedService,
    Supervisor,
    WantedService,
    argument_value,
    ask_kubelet,
    converge_service,
    detect_supervisor,
    server_health,
    with_server,
)
from kairos_engine_k3s.examination import examine, examine_launches
from kairos_engine_k3s.installer import Installer
from kairos_engine_k3s.journal import JOURNAL
from kairos_engine_k3s.launch import HOME, Launch, launch_of, launch_on, token_of, with_token
from kairos_engine_k3s.membership import way_back
from kairos_engine_k3s.part import remove_parts
from kairos_engine_k3s.preview import preview_of
from kairos_engine_k3s.program import PROGRAM, find_program, program_version
from kairos_engine_k3s.settings import AgentSettings, ServerSettings
from kairos_engine_k3s.teardown import tear_down
from kairos_engine_k3s.tokens import Memory, authority, next_token, password, shared_token

MEMORY = f"{HOME.state}/tokens.json"
"""What we know of the cluster's token, to tell a later one from an earlier."""


class K3sEngine(Engine):
    """k3s on this machine.

    Every `apply` compares what should run with what is on disk and with what the service was started with,
    and changes only what differs; no sentinel freezes a configuration. `root` is put before all paths.
    """

    def __init__(
        self,
        server: ServerSettings | None = None,
        agent: AgentSettings | None = None,
        *,
        root: Path = Path("/"),
        supervisor: Supervisor | None = None,
    ) -> None:
        self._server, self._agent = server or ServerSettings(), agent or AgentSettings()
        self._root, self._disk = root, Disk(HOME, root)
        self._installer = Installer(self._server.install, self._disk)
        self._supervisor = supervisor or detect_supervisor(HOME, root)
        self._changing = asyncio.Lock()
        self._launch: Launch | None = None
        self._host: str | None = None
        self._memory = Memory()

    async def installed(self) -> str | None:
        program = await asyncio.to_thread(find_program, self._root)
        return await program_version(program) if program else None

    async def apply(self, plan: NodePlan) -> None:
        launch_of(plan, self._server, self._agent)  # an impossible plan changes nothing
        async with self._changing:
            program = await self._installer.provide_program()
            launch, memory = await asyncio.to_thread(self._settle, plan)
            await asyncio.to_thread(self._check_data, plan, launch)
            await self._installer.provide_images(launch.data_directory)
            has_news = await self._has_news(launch, memory)
            state = await asyncio.to_thread(self._disk.state)
            if state.service and state.service != launch.service:
                await self._supervisor.stop(state.service)
            self._launch, self._host = launch, plan.attachment.endpoint or plan.attachment.node_ip
            wanted = WantedService(
                name=launch.service,
                read_at_start=self._supervisor.files(launch.definition, program),
                read_later=launch.manifests,
                compared=self._supervisor.files(launch.lasting, program),
                has_news=has_news,
                data_directory=launch.data_directory,
                kubeconfig=launch.kubeconfig if launch.is_server else "",
                health_port=launch.health_port,
            )
            self._memory = memory
            await converge_service(self._supervisor, self._disk, wanted)
            await asyncio.to_thread(self._remember, memory)

    async def status(self) -> EngineStatus:
        if self._installer.progress is not None:
            return EngineStatus(EngineState.STARTING, str(self._installer.progress))
        try:
            launch = self._launch or await asyncio.to_thread(launch_on, self._disk)
            if launch is None:
                return EngineStatus(EngineState.ABSENT)
            if not await self._supervisor.is_running(launch.service):
                return await self._trouble(launch, EngineState.FAILED, "k3s has ended")
            return await (self._server_status(launch) if launch.is_server else self._agent_status(launch))
        except EngineError as error:
            return EngineStatus(EngineState.FAILED, str(error))

    async def remove(self) -> None:
        async with self._changing:
            state = await asyncio.to_thread(self._disk.state)
            if state.service:
                await self._supervisor.stop(state.service)
            for name in state.files:
                await asyncio.to_thread(self._disk.remove, name)
            if state.data_directory:
                await tear_down(self._root, state.data_directory)
            await asyncio.to_thread(self._forget, state)
            self._launch, self._memory = None, Memory()

    async def expel(self, node_name: str) -> None:
        """Drain and delete the node; with it goes its member of etcd.

        That is a finalizer of k3s (pkg/etcd/member_controller.go, `managed-etcd-controller`), for which the deletion
        waits; there is nothing to do for a worker, SQLite or an external database. The server that is no member any
        more ends; what its init system starts again then fails, or joins anew (k3s#13498, k3s#13623), until `remove`.
        The password of the node's name goes with the node, as a Secret that it owns (pkg/nodepassword/controller.go).
        """
        kubectl = await self._kubectl()
        node = await kubectl.node(node_name)
        if node is not None:
            await kubectl.drain(node)
            await kubectl.delete(node.name)

    async def _kubectl(self) -> Kubectl:
        """Return the kubectl in k3s, as the administrator. Raises EngineError where k3s is no server."""
        state = await asyncio.to_thread(self._disk.state)
        program = await asyncio.to_thread(find_program, self._root)
        if program is None or not state.kubeconfig:
            raise EngineError("only a k3s server can take a node out of the cluster, and none runs on this machine.")
        return Kubectl((program, "kubectl", f"--kubeconfig={self._disk.path(state.kubeconfig)}"))

    def examine(self, plans: Sequence[NodePlan] = ()) -> Sequence[Finding]:
        installs = self._server.install.source is not None or self._server.install.is_download
        found = examine(self._root, find_program(self._root), installs=installs)
        return *found, examine_launches(self._root, self._launches(plans))

    def _launches(self, plans: Sequence[NodePlan]) -> list[Launch]:
        """Return what would run these plans; only those of the service that is here, if one of them is."""
        launches = []
        for plan in plans:
            with contextlib.suppress(EngineError, ValueError):  # a plan that cannot run needs nothing
                launches.append(launch_of(plan, self._server, self._agent))
        here = _service_on(self._disk)
        return [launch for launch in launches if launch.service == here] or launches

    def preview(self, plan: NodePlan) -> Preview:
        program = find_program(self._root) or PROGRAM
        files = self._supervisor.files(launch_of(plan, self._server, self._agent).definition, program)
        return preview_of(plan, (self._server, self._agent), program, files)

    async def service(self) -> SupervisedService | None:
        service = await asyncio.to_thread(
            SupervisedService, self._supervisor, self._disk, JOURNAL.blotted, ("K3S_URL",)
        )
        return service if service.name else None

    def _settle(self, plan: NodePlan) -> tuple[Launch, Memory]:
        """Return what to run, with the token that holds now, and what to remember of that."""
        before = Memory.decode(self._disk.read(MEMORY))
        given = token_of(plan)
        if plan.role is Role.CLUSTER_INIT and plan.rejoin is None and before.server and given == before.given:
            plan = replace(plan, rejoin=before.server)  # an agent that has just started may see nobody yet
        launch = launch_of(plan, self._server, self._agent)
        found = (self._disk.read(f"{launch.data_directory}/server/token") or "").strip() if launch.is_server else ""
        token = next_token(given, found, before)
        if plan.rejoin and password(token) == password(found):
            token = found  # in full, so that k3s shows it to no other cluster should it join anew
        if token != given:
            launch = launch_of(with_token(plan, token), self._server, self._agent)
        server = plan.join.server if plan.join else plan.rejoin or ""
        return launch, Memory(given, found, token, server)

    def _check_data(self, plan: NodePlan, launch: Launch) -> None:
        """Refuse to start the first master without its data: it would begin another, empty cluster of the same name."""
        server = self._disk.path(f"{launch.data_directory}/server")
        begins = launch.is_server and plan.join is None and plan.datastore is None
        is_gone = not (server / "db").exists() or (server / "db/etcd/tombstone").exists()
        if begins and is_gone and (server / "token").exists() and argument_value(launch.arguments, "server") is None:
            raise EngineError(
                f"a cluster began on this machine, and its data in {server}/db is gone: started now, k3s would begin "
                "another one. Bring it back, or start another master, which it joins: see docs/how-to/new-address.md"
            )

    async def _has_news(self, launch: Launch, memory: Memory) -> bool:
        """Say whether k3s must be started afresh for its token, or for the server that it joins.

        It must for another authority. Else it needs both until it has joined, and then at its next start.
        """
        before = Memory.decode(await asyncio.to_thread(self._disk.read, MEMORY))
        authorities = {authority(before.written), authority(memory.written)} - {""}
        if "K3S_TOKEN" in launch.passing and len(authorities) > 1:
            return True
        is_new = password(before.written) != password(memory.written)
        if launch.is_server:
            return not memory.found and (is_new or before.server != memory.server)
        return is_new and not await ask_kubelet(launch.health_port)

    def _remember(self, memory: Memory) -> None:
        self._memory = memory
        if Memory.decode(self._disk.read(MEMORY)) != memory:
            self._disk.write(File(MEMORY, memory.encode()))

    def _shared(self, found: str) -> str:
        """Return what others are to join with; `found` in k3s' file."""
        if found != self._memory.found and password(found) == password(self._memory.written):
            self._remember(replace(self._memory, found=found))  # it has been started with what we wrote
        return shared_token(found, self._memory)

    def _forget(self, state: DiskState) -> None:
        """Remove the rest of what we made: program, images and kubeconfig, the log, and the record itself."""
        remove_parts(self._disk.path(PROGRAM).parent)
        for name in (state.program, state.images, state.kubeconfig, MEMORY):
            if name:
                self._disk.remove(name)
        self._disk.forget()

    async def _server_status(self, launch: Launch) -> EngineStatus:
        token = await asyncio.to_thread(self._disk.read, f"{launch.data_directory}/server/node-token")
        token = token and await asyncio.to_thread(self._shared, token.strip())
        kubeconfig = await asyncio.to_thread(self._disk.read, launch.kubeconfig)
        if not token or not kubeconfig:
            return await self._trouble(launch, EngineState.STARTING, "k3s is starting")
        health = await server_health(kubeconfig)
        if health.trouble:
            return await self._trouble(launch, EngineState.STARTING, health.trouble)
        reachable = with_server(kubeconfig, self._host) if self._host else kubeconfig
        return EngineStatus(
            EngineState.READY,
            "k3s serves the cluster",
            join_token=SecretStr(token),
            kubeconfig=SecretStr(reachable),
            nodes=health.nodes,
        )

    async def _agent_status(self, launch: Launch) -> EngineStatus:
        if await ask_kubelet(launch.health_port):
            return EngineStatus(EngineState.READY, "k3s runs as an agent of the cluster")
        return await self._trouble(launch, EngineState.STARTING, "k3s is joining the cluster")

    async def _trouble(self, launch: Launch, state: EngineState, message: str) -> EngineStatus:
        """Say what is amiss, in k3s' own words where its log has any; what no waiting mends is a failure."""
        secrets = [secret.get_secret_value() for secret in launch.environment.values()]
        status = JOURNAL.explained(EngineStatus(state, message), await self._supervisor.log(launch.service), secrets)
        advice = way_back(status.message, launch)
        return replace(status, message=advice) if advice else status


def _service_on(disk: Disk) -> str:
    """Return the service that the record names; none where it cannot be read, as by who is no root."""
    try:
        return disk.state().service
    except EngineError:
        return ""
