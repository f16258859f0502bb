"""For plugin authors and our own tests: conformance checks, fakes, a lab of namespaces, a stand-in k3s."""
