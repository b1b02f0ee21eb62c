import Testing

@Suite struct FirmwareTests {}
