import Testing

@Suite struct ProcessorTests {}
