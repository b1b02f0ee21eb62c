import Testing

@Suite struct InventoryTests {}
