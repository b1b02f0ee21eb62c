import Testing

@Suite struct HostingTests {}
