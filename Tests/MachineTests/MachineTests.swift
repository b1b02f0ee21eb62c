import Testing

@Suite struct MachineTests {}
