"""Whatever is wrong gives one sentence: file, line, path, value, what was expected, the nearest right key."""

from collections.abc import Callable

import pytest

from kairos_core.config import parse_config
from kairos_core.errors import ConfigError


def error(*texts: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config([(f"{name}.yaml", text) for name, text in zip("abcdef", texts, strict=False)])
    return str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ('enable: true\n   # HA', 'enable: "yes"\n   # HA',
         "p2p.auto.enable: 'yes' is text, expected true or false, without quotes."),
        ("disable_dht: true", "disable_dht: 1",
         "p2p.disable_dht: '1' is a number, expected true or false."),
        ("disable_dht", "disable_dth", "p2p.disable_dth is an unknown key; did you mean disable_dht?"),
        ("disable_dht", "disable-dht", "p2p.disable-dht is an unknown key; did you mean disable_dht?"),
        ("master_nodes: 2", 'master_nodes: "2"',
         "p2p.auto.ha.master_nodes: '2' is text, expected a whole number, without quotes."),
        ("master_nodes: 2", "master_nodes: -2",
         "p2p.auto.ha.master_nodes: '-2' is a number, expected 0 or more."),
        ("master_nodes: 2", "master_nodes: 2.5",
         "p2p.auto.ha.master_nodes: '2.5' is a number, expected a whole number."),
        ("master_nodes: 2", "master_nodes: 1:30",
         "p2p.auto.ha.master_nodes: '1:30' is text, expected a whole number."),
        ("master_nodes: 2", "master_nodes: [2]",
         "p2p.auto.ha.master_nodes: there is a list, expected a whole number."),
        ('role: ""', "minimum_nodes: 0", "p2p.minimum_nodes: '0' is a number, expected 1 or more."),
        ('role: ""', "minimum_nodes: 70000", "p2p.minimum_nodes: '70000' is a number, expected 1000 or less."),
        ('role: ""', "role: workr",
         "p2p.role: 'workr' is not a role, expected one of master, master/clusterinit, master/ha, "
         "worker, none; did you mean 'worker'?"),
        ('role: ""', "loglevel: dbug",
         "p2p.loglevel: 'dbug' is not a log level, expected debug, info, warning or error; "
         "did you mean 'debug'?"),
        ('role: ""', "network_id: My Cluster",
         "p2p.network_id: 'My Cluster' is not a network id, expected 1 to 32 lower-case letters, "
         "digits, dots and hyphens."),
        ('role: ""', "peers: ['a:1', b]",
         "p2p.peers[1]: 'b' is not an address: write HOST:PORT, or [IPV6]:PORT."),
        ('role: ""', "peers: a:1",
         "p2p.peers: 'a:1' is text, expected a list: lines that start with -."),
        ('role: ""', "plugins: {engine: [k3s]}",
         "p2p.plugins.engine: there is a list, expected text."),
        ("use: false", "subnet: 10.1.0.5/24",
         "p2p.vpn.subnet: '10.1.0.5/24' is not an IPv4 network, expected one such as 10.1.0.0/24; "
         "the network of this address is 10.1.0.0/24."),
        ("use: false", "subnet: 10.1.0.0/33",
         "p2p.vpn.subnet: '10.1.0.0/33' is not an IPv4 network, expected one such as 10.1.0.0/24."),
        ("use: false", "subnet: 10.1.0.5",
         "p2p.vpn.subnet: '10.1.0.5/32' has no room for two machines, expected a network of /30 "
         "or larger."),
        ("use: false", "interface: a/b",
         "p2p.vpn.interface: 'a/b' is not the name of an interface, expected up to 15 characters such "
         "as 'eth0', without spaces, slashes and colons."),
        ("192.168.1.110", "192.168.1.1100",
         "kubevip.eip: '192.168.1.1100' is not an IP address, expected one such as 192.168.1.110."),
        ('"external-db-string"', "[a]", "p2p.auto.ha.external_db: there is a list, expected text."),
        ("env:\n      DHCP: true\n      EDGEVPNMAXCONNS: 200", "env: x",
         "p2p.vpn.env: the value is text, expected keys and values below it."),
        ('hostname: "kubevip-{{ trunc 4 .MachineID }}"', "hostname: a_b",
         "hostname: the host name 'a_b' is not valid: 'a_b' must be 1 to 63 letters, digits and "
         "hyphens, and neither start nor end with a hyphen (RFC 1123). Change hostname."),
        ("install:", "k0s: {enabled: true}\ninstall:",
         "k0s.enabled is true, but no engine for k0s is installed. Install kairos-engine-k0s, or use the k3s block."),
        ("install:", "kairos: {rol: worker}\ninstall:",
         "kairos.rol is an unknown key; did you mean role?"),
    ],
)  # fmt: skip
def test_one_fault_in_the_full_example_gives_one_sentence(
    full_example: str, before: str, after: str, sentence: str
) -> None:
    line = full_example[: full_example.index(before)].count("\n") + 1
    assert error(full_example.replace(before, after, 1)) == f"a.yaml, line {line}: {sentence}"


def test_a_missing_token_says_how_to_make_one() -> None:
    assert error("p2p: {role: worker}") == (
        "a.yaml, line 1: p2p.network_token is missing. Make one with: kairos generate-token"
    )


@pytest.mark.parametrize(
    "damage", [lambda t: t[:-7], lambda t: "YOUR_TOKEN_GOES_HERE", lambda t: '""', lambda t: "AAAA"]
)
def test_a_broken_token_is_named_with_its_path_and_never_shown(token: str, damage: Callable[[str], str]) -> None:
    broken = damage(token)
    message = error(f"p2p: {{network_token: {broken}}}")
    assert message.startswith("a.yaml, line 1: p2p.network_token: the network token ")
    assert broken not in message.replace('""', "")


def test_a_problem_names_the_file_it_stands_in(token: str) -> None:
    assert error(f"p2p: {{network_token: {token}}}", "\np2p: {prot: 1}").startswith("b.yaml, line 2: p2p.prot ")


def test_up_to_five_problems_are_listed_by_position(token: str) -> None:
    lines = error("\n".join(["p2p:", f"  network_token: {token}", *(f"  x{n}: 1" for n in range(7))])).splitlines()
    assert [line.partition(" is")[0] for line in lines] == [
        *(f"a.yaml, line {n + 3}: p2p.x{n}" for n in range(5)),
        "and 2 more",
    ]


def test_contradicting_spellings_are_an_error_and_secrets_stay_hidden(token: str) -> None:
    message = error(f"p2p: {{network_token: {token}}}", f"kairos: {{network_token: {token[:-4]}AAAA}}")
    assert message == (
        "b.yaml, line 1: kairos.network_token contradicts p2p.network_token (a.yaml, line 1), its new spelling. "
        "Keep only p2p.network_token."
    )


def test_a_p2p_block_of_the_wrong_type_is_reported_even_beside_the_old_block(token: str) -> None:
    expected = "a.yaml, line 1: p2p: there is a list, expected keys and values below it."
    assert error("p2p: [a]", f"kairos: {{network_token: {token}}}") == expected


def test_a_long_value_is_cut_in_case_it_is_a_token_in_the_wrong_place(token: str) -> None:
    for key in ("network_id", "role", "loglevel", "peers", "vpn"):
        assert token[:60] not in error(f"p2p: {{{key}: {token}}}")
    for text in (
        token,
        f"p2p: {token}",
        f"hostname: {token}",
        f"kubevip: {{eip: {token}}}",
        f"p2p: {{{token}: 1}}",
    ):
        assert token[:90] not in error(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a", "a.yaml, line 1: the file holds a list, expected a cloud-config"),
        ("a", "a.yaml, line 1: the file holds a single value, expected a cloud-config"),
        ("a: [1\nb: 2", "a.yaml, line 2, column 2: this is not YAML: while parsing a flow sequence, "),
        ("a: b: c", "a.yaml, line 1, column 5: this is not YAML: mapping values are not allowed"),
        ("a: 1\n---\nb: 2", "a.yaml, line 2: a second YAML document starts here"),
        ("p2p:\n  a: 1\n  b: 2\n  a: 3", "a.yaml, line 4: the key a is written twice, first on line 2."),
        ("users: {a: 1, a: 2}", "a.yaml, line 1: the key a is written twice, first on line 1."),
        ("a: *b", "a.yaml, line 1: an alias (*name) stands before, or inside, the anchor"),
        ("a: &a [*a]", "a.yaml, line 1: an alias (*name) stands before, or inside, the anchor"),
        ("[1]: 2", "a.yaml, line 1: a list or a mapping stands where a key belongs"),
        ("a: {<<: 1}", "a.yaml, line 1: the merge key << takes a mapping"),
        ("a\0b", "a.yaml: the file is not text"),
        ("\ud800", "a.yaml: the file is not text"),
        ("a: " + "[" * 40, "a.yaml, line 1: the file is nested deeper than 32 levels."),
        ("[" * 500_000, "a.yaml, line 1: the file is nested deeper than 32 levels."),
        ("- 1\n" * 110_000, "a.yaml, line 100000: the file has more than 100000 values"),
        ("x" * 1_100_000, "a.yaml: the file has 1100000 characters, more than 1048576."),
    ],
)  # fmt: skip
def test_a_file_that_is_no_cloud_config_says_where_and_why(text: str, sentence: str) -> None:
    assert error(text).startswith(sentence)


def test_aliases_that_grow_exponentially_are_stopped_at_once() -> None:
    laughs = ["a0: &a0 [ha, ha]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    assert "more than 100000 values" in error("\n".join(laughs))
    deep = ["a0: &a0 [ha]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 40)]
    assert "nested deeper than 32 levels" in error("\n".join(deep))
    merged = ["a0: &a0 {k0: 1}"] + [f"a{n}: &a{n} {{<<: *a{n - 1}, k{n}: 1}}" for n in range(1, 2000)]
    assert "more than 100000 values" in error("\n".join(merged))


def test_syntax_errors_of_several_files_are_reported_together() -> None:
    assert [line[:6] for line in error("a: [", "b: ]").splitlines()] == ["a.yaml", "b.yaml"]
