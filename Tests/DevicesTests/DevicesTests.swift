import Testing

@Suite struct DevicesTests {}
