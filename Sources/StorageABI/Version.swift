// swift-format-ignore-file: AlwaysUseLowerCamelCase
internal import CStorage
internal import StorageCore

@implementation @_cdecl("raystorage_abi_version")
public func raystorage_abi_version() -> UInt32 { UInt32(RAYSTORAGE_ABI_VERSION) }
