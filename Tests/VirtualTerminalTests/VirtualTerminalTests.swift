import Testing

@Suite struct VirtualTerminalTests {}
