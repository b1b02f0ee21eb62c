import Testing

@Suite struct KVMTests {}
