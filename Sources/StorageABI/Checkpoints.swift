// swift-format-ignore-file: AlwaysUseLowerCamelCase, AllPublicDeclarationsHaveDocumentation
public import CStorage
internal import StorageCore

@implementation @_cdecl("raystorage_checkpoint_download_start")
public func raystorage_checkpoint_download_start(
    _ path: UnsafePointer<CChar>?, _ storage_options_json: UnsafePointer<CChar>?,
    _ local_directory: UnsafePointer<CChar>?, _ verify: Int32,
    _ out_operation: UnsafeMutablePointer<OpaquePointer?>?, _ error: OutError?
) -> raystorage_status {
    start(out_operation, storage_options_json, error) { options throws(StorageError) in
        let checkpoint = try CheckpointAccess(try text(path, "path"), storageOptions: options)
        let directory = try text(local_directory, "local_directory")
        return { progress throws(StorageError) in
            try await checkpoint.download(to: directory, verify: verify != 0, progress: progress)
        }
    }
}

@implementation @_cdecl("raystorage_checkpoint_download_files_start")
public func raystorage_checkpoint_download_files_start(
    _ path: UnsafePointer<CChar>?, _ storage_options_json: UnsafePointer<CChar>?, _ include_json: UnsafePointer<CChar>?,
    _ local_directory: UnsafePointer<CChar>?, _ verify: Int32,
    _ out_operation: UnsafeMutablePointer<OpaquePointer?>?, _ error: OutError?
) -> raystorage_status {
    start(out_operation, storage_options_json, error) { options throws(StorageError) in
        let checkpoint = try CheckpointAccess(try text(path, "path"), storageOptions: options)
        let selection = try FileSelection(try include(try text(include_json, "include_json")))
        let directory = try text(local_directory, "local_directory")
        return { progress throws(StorageError) in
            try await checkpoint.download(selection, to: directory, verify: verify != 0, progress: progress)
        }
    }
}

private func include(_ json: String) throws(StorageError) -> [String] {
    let list = (try? JSONParser.parse(json))?.arrayValue
    let texts = list?.compactMap(\.stringValue)
    guard let texts, texts.count == list?.count else {
        throw StorageError(
            .invalidArgument, "include must be a JSON array of strings",
            details: [("name", "include"), ("allowed", "an array of strings")])
    }
    return texts
}

@implementation @_cdecl("raystorage_checkpoint_acquire_start")
public func raystorage_checkpoint_acquire_start(
    _ path: UnsafePointer<CChar>?, _ storage_options_json: UnsafePointer<CChar>?,
    _ staging_dir: UnsafePointer<CChar>?, _ out_operation: UnsafeMutablePointer<OpaquePointer?>?, _ error: OutError?
) -> raystorage_status {
    start(out_operation, storage_options_json, error) { options throws(StorageError) in
        let checkpoint = try CheckpointAccess(try text(path, "path"), storageOptions: options)
        let staging = try optionalText(staging_dir, "staging_dir")
        return { progress throws(StorageError) in
            try await checkpoint.acquire(stagingDirectory: staging, progress: progress)
        }
    }
}

@implementation @_cdecl("raystorage_checkpoint_release")
public func raystorage_checkpoint_release(_ lease: UnsafePointer<CChar>?, _ error: OutError?) -> raystorage_status {
    guarded(error) { () throws(StorageError) in try Leases.shared.release(try text(lease, "lease")) }
}

@implementation @_cdecl("raystorage_checkpoint_verify_start")
public func raystorage_checkpoint_verify_start(
    _ path: UnsafePointer<CChar>?, _ storage_options_json: UnsafePointer<CChar>?,
    _ out_operation: UnsafeMutablePointer<OpaquePointer?>?, _ error: OutError?
) -> raystorage_status {
    start(out_operation, storage_options_json, error) { options throws(StorageError) in
        let checkpoint = try CheckpointAccess(try text(path, "path"), storageOptions: options)
        return { progress throws(StorageError) in try await checkpoint.verify(progress: progress) }
    }
}

@implementation @_cdecl("raystorage_checkpoint_manifest_start")
public func raystorage_checkpoint_manifest_start(
    _ path: UnsafePointer<CChar>?, _ storage_options_json: UnsafePointer<CChar>?,
    _ out_operation: UnsafeMutablePointer<OpaquePointer?>?, _ error: OutError?
) -> raystorage_status {
    start(out_operation, storage_options_json, error) { options throws(StorageError) in
        let checkpoint = try CheckpointAccess(try text(path, "path"), storageOptions: options)
        return { progress throws(StorageError) in try await checkpoint.manifestDocument(progress: progress) }
    }
}

@implementation @_cdecl("raystorage_checkpoint_metadata_start")
public func raystorage_checkpoint_metadata_start(
    _ path: UnsafePointer<CChar>?, _ storage_options_json: UnsafePointer<CChar>?,
    _ out_operation: UnsafeMutablePointer<OpaquePointer?>?, _ error: OutError?
) -> raystorage_status {
    start(out_operation, storage_options_json, error) { options throws(StorageError) in
        let checkpoint = try CheckpointAccess(try text(path, "path"), storageOptions: options)
        return { progress throws(StorageError) in try await checkpoint.metadata(progress: progress) }
    }
}

@implementation @_cdecl("raystorage_checkpoint_set_metadata_start")
public func raystorage_checkpoint_set_metadata_start(
    _ path: UnsafePointer<CChar>?, _ storage_options_json: UnsafePointer<CChar>?,
    _ metadata_json: UnsafePointer<CChar>?, _ out_operation: UnsafeMutablePointer<OpaquePointer?>?,
    _ error: OutError?
) -> raystorage_status {
    start(out_operation, storage_options_json, error) { options throws(StorageError) in
        let checkpoint = try CheckpointAccess(try text(path, "path"), storageOptions: options)
        let metadata = try text(metadata_json, "metadata_json")
        return { progress throws(StorageError) in
            try await checkpoint.setMetadata(metadata, progress: progress)
            return .null
        }
    }
}

@implementation @_cdecl("raystorage_checkpoint_manifest")
public func raystorage_checkpoint_manifest(
    _ path: UnsafePointer<CChar>?, _ storage_options_json: UnsafePointer<CChar>?, _ out_json: OutText?,
    _ error: OutError?
) -> raystorage_status {
    guarded(error) { () throws(StorageError) in
        let checkpoint = try CheckpointAccess(
            try text(path, "path"), storageOptions: try storageOptions(storage_options_json))
        try put(
            try wait { progress throws(StorageError) in
                try await checkpoint.manifestDocument(progress: progress)
            }.compact, out_json)
    }
}

@implementation @_cdecl("raystorage_checkpoint_metadata")
public func raystorage_checkpoint_metadata(
    _ path: UnsafePointer<CChar>?, _ storage_options_json: UnsafePointer<CChar>?, _ out_json: OutText?,
    _ error: OutError?
) -> raystorage_status {
    guarded(error) { () throws(StorageError) in
        let checkpoint = try CheckpointAccess(
            try text(path, "path"), storageOptions: try storageOptions(storage_options_json))
        try put(
            try wait { progress throws(StorageError) in try await checkpoint.metadata(progress: progress) }.compact,
            out_json)
    }
}

@implementation @_cdecl("raystorage_checkpoint_set_metadata")
public func raystorage_checkpoint_set_metadata(
    _ path: UnsafePointer<CChar>?, _ storage_options_json: UnsafePointer<CChar>?,
    _ metadata_json: UnsafePointer<CChar>?, _ error: OutError?
) -> raystorage_status {
    guarded(error) { () throws(StorageError) in
        let checkpoint = try CheckpointAccess(
            try text(path, "path"), storageOptions: try storageOptions(storage_options_json))
        let metadata = try text(metadata_json, "metadata_json")
        _ = try wait { progress throws(StorageError) in
            try await checkpoint.setMetadata(metadata, progress: progress)
            return .null
        }
    }
}

@implementation @_cdecl("raystorage_result_read_start")
public func raystorage_result_read_start(
    _ path: UnsafePointer<CChar>?, _ storage_options_json: UnsafePointer<CChar>?,
    _ out_operation: UnsafeMutablePointer<OpaquePointer?>?, _ error: OutError?
) -> raystorage_status {
    start(out_operation, storage_options_json, error) { options throws(StorageError) in
        let result = try RunResult(try text(path, "path"), storageOptions: options)
        return { _ throws(StorageError) in try await result.document() }
    }
}

@implementation @_cdecl("raystorage_result_metrics_start")
public func raystorage_result_metrics_start(
    _ path: UnsafePointer<CChar>?, _ storage_options_json: UnsafePointer<CChar>?,
    _ out_operation: UnsafeMutablePointer<OpaquePointer?>?, _ error: OutError?
) -> raystorage_status {
    start(out_operation, storage_options_json, error) { options throws(StorageError) in
        let result = try RunResult(try text(path, "path"), storageOptions: options)
        return { _ throws(StorageError) in try await result.metrics() }
    }
}

// MARK: - Housekeeping

@implementation @_cdecl("raystorage_path_list_start")
public func raystorage_path_list_start(
    _ path: UnsafePointer<CChar>?, _ storage_options_json: UnsafePointer<CChar>?,
    _ out_operation: UnsafeMutablePointer<OpaquePointer?>?, _ error: OutError?
) -> raystorage_status {
    start(out_operation, storage_options_json, error) { options throws(StorageError) in
        let result = try RunResult(try text(path, "path"), storageOptions: options)
        return { _ throws(StorageError) in try await result.listing() }
    }
}

@implementation @_cdecl("raystorage_run_gc_start")
public func raystorage_run_gc_start(
    _ path: UnsafePointer<CChar>?, _ storage_options_json: UnsafePointer<CChar>?, _ now: Int32, _ dry_run: Int32,
    _ out_operation: UnsafeMutablePointer<OpaquePointer?>?, _ error: OutError?
) -> raystorage_status {
    start(out_operation, storage_options_json, error) { options throws(StorageError) in
        let collection = try GarbageCollection(try text(path, "path"), storageOptions: options)
        return { progress throws(StorageError) in
            try await collection.run(now: now != 0, dryRun: dry_run != 0, progress: progress)
        }
    }
}

@implementation @_cdecl("raystorage_staging_drain_start")
public func raystorage_staging_drain_start(
    _ staging_dir: UnsafePointer<CChar>?, _ storage_options_json: UnsafePointer<CChar>?,
    _ out_operation: UnsafeMutablePointer<OpaquePointer?>?, _ error: OutError?
) -> raystorage_status {
    start(out_operation, storage_options_json, error) { options throws(StorageError) in
        let staging = try optionalText(staging_dir, "staging_dir")
        return { progress throws(StorageError) in
            try await Drain.run(stagingDirectory: staging, storageOptions: options, progress: progress)
        }
    }
}

@implementation @_cdecl("raystorage_path_doctor_start")
public func raystorage_path_doctor_start(
    _ path: UnsafePointer<CChar>?, _ storage_options_json: UnsafePointer<CChar>?,
    _ out_operation: UnsafeMutablePointer<OpaquePointer?>?, _ error: OutError?
) -> raystorage_status {
    start(out_operation, storage_options_json, error) { options throws(StorageError) in
        let doctor = try Doctor(try text(path, "path"), storageOptions: options)
        return { progress throws(StorageError) in try await doctor.run(progress: progress) }
    }
}
