"""The commands that speak to the running agent, under the names by which the command table finds them."""

from kairos_core.cli.cluster import cluster
from kairos_core.cli.doctor import doctor
from kairos_core.cli.kubeconfig import get_kubeconfig
from kairos_core.cli.ledger import ledger
from kairos_core.cli.role import role
from kairos_core.cli.status import status, uuid

__all__ = ["cluster", "doctor", "get_kubeconfig", "ledger", "role", "status", "uuid"]
