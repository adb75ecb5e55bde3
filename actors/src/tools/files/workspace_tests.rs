use super::super::tests::{error, text, used};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

/// A workspace with a secret beside it.
fn place() -> (tempfile::TempDir, std::path::PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let workspace = home.path().join("workspace");
    fs::create_dir(&workspace).unwrap();
    fs::write(home.path().join("secret"), "the secret").unwrap();
    fs::create_dir(home.path().join("elsewhere")).unwrap();
    (home, workspace)
}

/// No tool gets out by this path.
async fn kept_in(workspace: &Path, path: &str) {
    for (tool, args) in [
        ("read", json!({ "path": path })),
        ("edit", json!({ "path": path, "oldText": "the", "newText": "a" })),
        ("write", json!({ "path": path, "content": "written" })),
        ("ls", json!({ "path": path })),
        ("find", json!({ "path": path, "pattern": "*" })),
        ("grep", json!({ "path": path, "pattern": "." })),
        ("memory_get", json!({ "path": path })),
    ] {
        let text = error(workspace, tool, args).await;
        assert!(!text.contains("the secret"), "{tool} {path}: {text}");
    }
}

#[tokio::test]
async fn no_path_leads_out() {
    let (home, workspace) = place();
    symlink(home.path().join("secret"), workspace.join("link")).unwrap();
    symlink("../secret", workspace.join("relative")).unwrap();
    symlink(home.path(), workspace.join("up")).unwrap();
    symlink("up", workspace.join("chain")).unwrap();
    let absolute = home.path().join("secret").display().to_string();
    let back = format!("{}/../secret", workspace.display());
    for path in
        ["../secret", "link", "relative", "up/secret", "chain/secret", "a/../../secret", &absolute, &back]
    {
        kept_in(&workspace, path).await;
    }
    for path in ["../new", "up/new", "chain/new/new", "up/elsewhere/new"] {
        error(&workspace, "write", json!({ "path": path, "content": "x" })).await;
    }
    assert_eq!(fs::read_to_string(home.path().join("secret")).unwrap(), "the secret");
    assert!(!home.path().join("new").exists() && !home.path().join("elsewhere/new").exists());
    let found = text(&workspace, "grep", json!({ "pattern": "secret" })).await;
    assert_eq!(found, "[No line fits the pattern.]");
    assert!(!text(&workspace, "find", json!({ "pattern": "*" })).await.contains("elsewhere"));
}

/// A link that changes between two calls, and within one, never leads out.
#[tokio::test]
async fn a_link_that_is_swapped_all_the_time_never_leads_out() {
    let (home, workspace) = place();
    fs::create_dir(workspace.join("inner")).unwrap();
    fs::write(workspace.join("inner/secret"), "harmless").unwrap();
    let (outer, link) = (home.path().to_owned(), workspace.join("door"));
    symlink("inner", &link).unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let stopped = stop.clone();
    let swapping = std::thread::spawn(move || {
        let new = link.with_extension("new");
        while !stopped.is_cancelled() {
            for target in [&outer, Path::new("inner")] {
                symlink(target, &new).unwrap();
                fs::rename(&new, &link).unwrap();
            }
        }
    });
    for _ in 0..300 {
        let read = used(&workspace, "read", json!({ "path": "door/secret" })).await;
        assert!(read.is_error || read.as_text() == "harmless", "{}", read.as_text());
        used(&workspace, "write", json!({ "path": "door/new", "content": "x" })).await;
    }
    stop.cancel();
    swapping.join().unwrap();
    assert!(!home.path().join("new").exists());
}

#[tokio::test]
async fn links_and_absolute_paths_within_are_fine() {
    let (_home, workspace) = place();
    fs::create_dir(workspace.join("real")).unwrap();
    fs::write(workspace.join("real/file"), "content").unwrap();
    symlink("real", workspace.join("door")).unwrap();
    symlink("real/file", workspace.join("name")).unwrap();
    let absolute = workspace.join("real/file").display().to_string();
    for path in ["door/file", "name", &absolute, "real/../real/file"] {
        assert_eq!(text(&workspace, "read", json!({ "path": path })).await, "content", "{path}");
    }
    text(&workspace, "write", json!({ "path": "name", "content": "new" })).await;
    assert_eq!(fs::read_to_string(workspace.join("real/file")).unwrap(), "new");
    assert!(fs::symlink_metadata(workspace.join("name")).unwrap().is_symlink(), "the link stays");
    assert!(text(&workspace, "ls", json!({ "path": workspace })).await.contains("door@"));
}

#[tokio::test]
async fn a_workspace_behind_a_link_is_known_by_both_names() {
    let (home, workspace) = place();
    fs::write(workspace.join("file"), "content").unwrap();
    let link = home.path().join("alias");
    symlink(&workspace, &link).unwrap();
    let real = fs::canonicalize(&workspace).unwrap();
    for at in [&link, &real] {
        assert_eq!(text(&link, "read", json!({ "path": at.join("file") })).await, "content");
    }
}

#[tokio::test]
async fn pipes_devices_sockets_and_files_with_several_names_are_not_opened() {
    let (home, workspace) = place();
    let pipe = workspace.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(workspace.join("socket")).unwrap();
    fs::hard_link(home.path().join("secret"), workspace.join("hard")).unwrap();
    for path in ["pipe", "socket", "hard"] {
        for (tool, args) in [
            ("read", json!({ "path": path })),
            ("edit", json!({ "path": path, "oldText": "the", "newText": "a" })),
            ("grep", json!({ "path": path, "pattern": "." })),
        ] {
            let told = tokio::time::timeout(Duration::from_secs(10), error(&workspace, tool, args)).await;
            let told = told.unwrap_or_else(|_| {
                // Who hangs there goes on when somebody else opens it.
                drop(fs::OpenOptions::new().read(true).write(true).open(&pipe));
                panic!("{tool} hangs at {path}")
            });
            assert!(told.contains("no ordinary file") || told.contains("several names"), "{told}");
        }
    }
    assert_eq!(
        text(&workspace, "grep", json!({ "pattern": "secret" })).await.lines().next(),
        Some("[No line fits the pattern.]")
    );
    text(&workspace, "write", json!({ "path": "hard", "content": "mine" })).await;
    assert_eq!(fs::read_to_string(home.path().join("secret")).unwrap(), "the secret");
}

#[tokio::test]
async fn permissions_of_a_file_are_kept_and_new_ones_are_private() {
    let (_home, workspace) = place();
    fs::write(workspace.join("script"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(workspace.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    for path in ["script", "new"] {
        text(&workspace, "write", json!({ "path": path, "content": "x" })).await;
    }
    let mode = |name| fs::metadata(workspace.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("script"), mode("new")), (0o755, 0o600));
    let names: Vec<_> = fs::read_dir(&workspace).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing is left behind: {names:?}");
}
