from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from kairos_core.cluster.addresses import Claim, free_address, held_by, holders, read_claims, renewed, without_guests
from kairos_core.model import PeerId
from kairos_core.protocol.entry import Entry, pack

POOL = IPv4Network("10.1.0.0/29")
PEERS = [PeerId(bytes([n]) * 32) for n in range(1, 10)]
CLAIMS = st.builds(
    Claim,
    st.sampled_from([IPv4Address("10.1.0.1"), IPv4Address("10.1.0.2")]),
    st.sampled_from(PEERS[:4]),
    st.integers(0, 1),
    st.integers(0, 2),
)


@given(st.lists(CLAIMS, max_size=8), st.randoms())
def test_the_holder_does_not_depend_on_the_order_of_the_claims(claims: list[Claim], random: object) -> None:
    before = holders(claims, POOL)
    random.shuffle(claims)
    assert holders(claims, POOL) == before


def test_who_has_held_an_address_for_longer_keeps_it() -> None:
    address = IPv4Address("10.1.0.3")
    assert holders([Claim(address, PEERS[0], 0, 5), Claim(address, PEERS[1], 0, 4)], POOL) == {address: PEERS[0]}


def test_a_pool_is_filled_to_its_last_address_without_a_double() -> None:
    held: dict[IPv4Address, PeerId] = {}
    for peer in PEERS[:6]:
        address = free_address(POOL, peer, held)
        assert address is not None
        assert address in POOL.hosts()
        held[address] = peer
    assert len(held) == 6
    assert free_address(POOL, PEERS[7], held) is None


def test_a_gap_is_used_again() -> None:
    held = dict.fromkeys(POOL.hosts(), PEERS[0])
    del held[IPv4Address("10.1.0.4")]
    assert free_address(POOL, PEERS[1], held) == IPv4Address("10.1.0.4")


def test_the_address_of_a_node_is_the_lowest_it_holds() -> None:
    held = {IPv4Address("10.1.0.5"): PEERS[0], IPv4Address("10.1.0.2"): PEERS[0], IPv4Address("10.1.0.1"): PEERS[1]}
    assert held_by(PEERS[0], held) == IPv4Address("10.1.0.2")
    assert held_by(PEERS[2], held) is None


def test_claims_of_no_form_are_left_out() -> None:
    good = Entry("leases", f"10.1.0.1/{PEERS[0]}", pack({"renewals": 1}), PEERS[0], 1)
    bad = [
        Entry("leases", f"not-an-address/{PEERS[0]}", pack({"renewals": 1}), PEERS[0], 1),
        Entry("leases", f"10.1.0.1/{PEERS[0]}", pack({"renewals": "x"}), PEERS[0], 1),
        Entry("leases", f"10.1.0.1/{PEERS[0]}", pack([]), PEERS[0], 1),
        Entry("peers", f"10.1.0.1/{PEERS[0]}", pack({"renewals": 1}), PEERS[0], 1),
    ]
    assert read_claims([*bad, good]) == [Claim(IPv4Address("10.1.0.1"), PEERS[0], 0, 1)]


def test_a_renewed_claim_outweighs_its_older_form_and_other_entries_stay_as_they_are() -> None:
    claim = Entry("leases", f"10.1.0.1/{PEERS[0]}", pack({"renewals": 3}), PEERS[0], 1)
    assert renewed(claim).content == {"renewals": 4}
    other = Entry("peers", str(PEERS[0]), pack({"name": "x"}), PEERS[0], 1)
    assert renewed(other) == other


def test_a_renewed_claim_remembers_its_guest() -> None:
    entry = Entry("leases", f"10.1.0.1/{PEERS[0]}", pack({"renewals": 1, "guest": "phone"}), PEERS[0], 1)
    assert renewed(entry).content == {"renewals": 2, "guest": "phone"}
    (claim,) = read_claims([renewed(entry)])
    assert claim.guest == "phone"


def test_what_is_held_for_a_guest_is_not_the_nodes_own() -> None:
    guest, own = IPv4Address("10.1.0.1"), IPv4Address("10.1.0.2")
    claims = [Claim(guest, PEERS[0], 0, 0, "phone"), Claim(own, PEERS[0], 0, 0), Claim(guest, PEERS[1], 0, 9)]
    assert without_guests({guest: PEERS[0], own: PEERS[0]}, claims) == {own: PEERS[0]}
    assert without_guests({guest: PEERS[1]}, claims) == {guest: PEERS[1]}
