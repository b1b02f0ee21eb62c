import Testing

@Suite struct SerialMuxTests {}
