import Testing

@Suite struct GuestMemoryTests {}
