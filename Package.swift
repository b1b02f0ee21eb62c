// swift-tools-version: 6.2
import PackageDescription

/// Every target is compiled under the same rules; a warning is an error.
let settings: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .treatAllWarnings(as: .error),
  // The linker leaves out functions that nobody calls, and puts those side by side that every start runs.
  .unsafeFlags(["-Xfrontend", "-function-sections"]),
]

/// The interpreter's handlers end in tail calls, which only an optimized build makes; its pointers are raw, so exclusivity
/// checks would find nothing. Merging functions that are alike would turn tail calls into calls.
let interpreter: [SwiftSetting] = [
  .unsafeFlags([
    "-O", "-enforce-exclusivity=unchecked", "-Xfrontend", "-disable-llvm-merge-functions-pass",
  ]),
  // Handlers are specialized across files, or they would not end in tail calls.
  .unsafeFlags(["-whole-module-optimization", "-num-threads", "2"], .when(configuration: .debug)),
]

/// The interpreter's part in C, and checksums, are as quick in a debug build.
let optimized: [CSetting] = [.unsafeFlags(["-O2"], .when(configuration: .debug))]

/// Swift's runtime inside the executable: it runs where no Swift is installed, starts in a third of the time, and leaves
/// 9 MiB of tables alone that the dynamic linker would write to. Nobody links against it, so it names no symbols to others.
///
/// The same holds for the small libraries of C that `Linking/static` names, and `Linking/uj.ld` says how it lies in memory;
/// its relocations are packed, which makes them 13 KiB instead of 1.5 MiB.
let linking = "\(Context.packageDirectory)/Linking"
let selfContained: [LinkerSetting] = [
  .unsafeFlags([
    "-static-stdlib", "-Xclang-linker", "-static-libgcc", "-L\(linking)/static", "-L\(linking)",
    "-use-ld=bfd", "-Xlinker", "-T", "-Xlinker", "\(linking)/uj.ld", "-Xlinker", "-z", "-Xlinker",
    "relro", "-Xlinker", "-z", "-Xlinker", "pack-relative-relocs", "-Xlinker",
    "--no-export-dynamic",
  ]),
  .linkedLibrary("_FoundationCollections"),
  .linkedLibrary("_FoundationCShims"), .linkedLibrary("_FoundationICU"),
]

func room(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(of name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .testTarget(
    name: "\(name)Tests", dependencies: [.init(stringLiteral: name)] + dependencies,
    swiftSettings: settings)
}

let argumentParser = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser")
let toml = Target.Dependency.product(name: "TOMLKit", package: "TOMLKit")

let package = Package(
  name: "underjack",
  products: [
    .executable(name: "uj", targets: ["uj"]),
    .executable(name: "uj-bench", targets: ["uj-bench"]),
    .library(name: "DiskImage", targets: ["DiskImage"]),
    .library(name: "KVM", targets: ["KVM"]),
    .library(name: "Machine", targets: ["Machine"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/LebJe/TOMLKit", from: "0.6.0"),
  ],
  targets: [
    // Floor 0: what C gives us.
    .target(name: "CLinux"),
    .target(name: "CSoftProcessor", cSettings: optimized),
    .target(name: "CChecksum", cSettings: optimized),
    .systemLibrary(name: "CNcurses", providers: [.apt(["libncurses-dev"])]),
    .systemLibrary(name: "CZlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "CZstd", providers: [.apt(["libzstd-dev"])]),
    .systemLibrary(name: "CLzma", providers: [.apt(["liblzma-dev"])]),
    .systemLibrary(name: "CBzip2", providers: [.apt(["libbz2-dev"])]),
    .systemLibrary(name: "CLz4", providers: [.apt(["liblz4-dev"])]),
    .systemLibrary(name: "CURing", providers: [.apt(["liburing-dev"])]),
    .systemLibrary(name: "CSlirp", providers: [.apt(["libslirp-dev"])]),
    // Floor 1, in this order: each may import those above it.
    room("Platform", ["CLinux"]),
    room("GuestMemory", ["CLinux", "Platform"]),
    room("Processor", ["GuestMemory"]),
    room("StateFile", ["CChecksum", "CLinux", "Platform", "GuestMemory"]),
    room("DiskImage", ["CLinux", "Platform", "CZlib", "CZstd", "CURing"]),
    room("VirtualTerminal"),
    // Floor 2
    room("KVM", ["CLinux", "Platform", "GuestMemory", "Processor"]),
    .target(
      name: "SoftProcessor",
      dependencies: ["CSoftProcessor", "CLinux", "Platform", "GuestMemory", "Processor"],
      swiftSettings: settings + interpreter),
    room("Devices", ["CLinux", "Platform", "GuestMemory", "Processor", "DiskImage"]),
    // Floor 3
    room(
      "Firmware",
      [
        "CLinux", "CZlib", "CZstd", "CLzma", "CBzip2", "CLz4", "Platform", "GuestMemory",
        "Processor", "Devices",
      ]),
    room(
      "DeviceFuzzing",
      ["CLinux", "Platform", "GuestMemory", "Processor", "StateFile", "Devices"]),
    room("Networks", ["CLinux", "CSlirp", "Platform", "Devices"]),
    // Floor 4
    room(
      "Machine",
      [
        "CChecksum", "CLinux", "Platform", "GuestMemory", "Processor", "StateFile", "KVM",
        "SoftProcessor", "Devices", "Firmware", "Networks", "DiskImage",
      ]),
    // Floor 5
    room("SerialMux", ["CLinux", "Platform", "VirtualTerminal"]),
    room(
      "Inventory",
      ["CLinux", "Platform", "Processor", "StateFile", "DiskImage", "Devices", "Networks", toml]),
    // Floor 6
    room(
      "Hosting",
      [
        "CLinux", "Platform", "Processor", "Devices", "Networks", "StateFile", "Machine",
        "SerialMux", "Inventory", "VirtualTerminal",
      ]),
    // Floor 7
    room(
      "ConsoleUI",
      [
        "CLinux", "CNcurses", "Platform", "VirtualTerminal", toml,
      ]),
    // What the console shows and does, of real machines. Apart from it, so that both are compiled at the same time.
    room(
      "ConsoleService",
      [
        "CLinux", "Platform", "Processor", "DiskImage", "Devices", "Inventory", "Hosting",
        "ConsoleUI",
      ]),
    // Floor 8
    .executableTarget(
      name: "uj",
      dependencies: [
        "Platform", "Processor", "StateFile", "DiskImage", "Devices", "Networks", "Machine",
        "Inventory", "Hosting",
        "ConsoleUI", "ConsoleService", argumentParser,
      ], swiftSettings: settings, linkerSettings: selfContained),
    .executableTarget(
      name: "uj-bench",
      dependencies: [
        "CLinux", "Platform", "GuestMemory", "Processor", "StateFile", "Devices", "DeviceFuzzing",
        "Machine",
        "KVM", "DiskImage", "VirtualTerminal", "SerialMux", "Hosting", "ConsoleUI",
        "ConsoleService", "Networks", "NetworkGuests", argumentParser,
      ],
      swiftSettings: settings),
    .target(
      name: "TestGuests", dependencies: ["CLinux", "Platform"], path: "Tests/TestGuests",
      exclude: ["Sources"], swiftSettings: settings),
    .target(
      name: "NetworkGuests", dependencies: ["CLinux", "Platform", "Hosting"],
      path: "Tests/NetworkGuests", swiftSettings: settings),
    // A malicious host process, for HostingTests: does in a machine's sandbox what no host ever does.
    .executableTarget(
      name: "sandbox-probe", dependencies: ["CLinux", "Platform", "Inventory", "Hosting"],
      path: "Tests/SandboxProbe", swiftSettings: settings),
    tests(of: "Platform"),
    tests(of: "GuestMemory", ["CLinux", "Platform"]),
    tests(of: "Processor", ["GuestMemory"]),
    tests(of: "StateFile", ["CLinux", "GuestMemory", "Platform"]),
    tests(of: "DiskImage", ["CLinux", "Platform", "CZlib"]),
    tests(of: "VirtualTerminal"),
    tests(of: "KVM", ["GuestMemory", "Processor", "Platform"]),
    .target(name: "NativeProcessor", path: "Tests/NativeProcessor"),
    // A thread of the test program, which SystemTests link into it.
    .target(name: "TestDeadline", path: "Tests/TestDeadline"),
    tests(
      of: "SoftProcessor",
      ["CSoftProcessor", "NativeProcessor", "GuestMemory", "KVM", "Platform", "Processor"]),
    tests(
      of: "Devices",
      ["CLinux", "DeviceFuzzing", "GuestMemory", "DiskImage", "Platform", "Processor"]),
    tests(of: "Networks", ["CLinux", "Devices", "Platform"]),
    tests(of: "Firmware", ["CLinux", "GuestMemory", "Platform", "Processor", "Devices"]),
    tests(
      of: "Machine",
      [
        "TestGuests", "GuestMemory", "Processor", "StateFile", "Devices", "DeviceFuzzing",
        "Firmware", "DiskImage", "Networks", "Platform",
      ]),
    tests(of: "SerialMux", ["CLinux", "VirtualTerminal", "Platform"]),
    tests(of: "Inventory", ["CLinux", "DiskImage", "Networks", "Platform"]),
    tests(
      of: "Hosting",
      [
        "CLinux", "Devices", "DiskImage", "Inventory", "Machine", "Networks", "Processor",
        "SerialMux", "StateFile", "Platform",
      ]),
    tests(
      of: "ConsoleUI",
      [
        "CLinux", "ConsoleService", "Devices", "VirtualTerminal", "Hosting", "Inventory",
        "Platform",
      ]),
    .testTarget(
      name: "SystemTests",
      dependencies: [
        "CLinux", "TestGuests", "TestDeadline", "NetworkGuests", "Inventory", "DiskImage",
        "Hosting", "KVM", "Platform",
      ],
      swiftSettings: settings),
  ]
)

// Fuzzers need instrumented code, so they are a package of their own: UNDERJACK_FUZZ=1 swift build, into another folder.
if Context.environment["UNDERJACK_FUZZ"] != nil {
  package.targets.removeAll {
    $0.type == .test || ["uj", "uj-bench", "sandbox-probe"].contains($0.name)
  }
  package.products.removeAll { ["uj", "uj-bench"].contains($0.name) }
  for target in package.targets where target.name == "DiskImage" {
    target.swiftSettings = settings + [.unsafeFlags(["-sanitize=fuzzer"])]
  }
  package.targets.append(
    .executableTarget(
      name: "DiskImageFuzzer", dependencies: ["DiskImage", "CLinux", "Platform"], path: "Tests",
      sources: [
        "DiskImageFuzzer", "DiskImageTests/Support/SampleImage.swift",
        "DiskImageTests/Support/DamagedImage.swift",
        "DiskImageTests/Support/MemoryStorage.swift",
      ],
      swiftSettings: settings + [.unsafeFlags(["-sanitize=fuzzer", "-parse-as-library"])],
      linkerSettings: [.unsafeFlags(["-sanitize=fuzzer"])]))
}
