//! What is there when a torrent is opened: the journal's claims held against the files in place.

use std::collections::BTreeMap;
use std::io;

use riverrun_base::{Bitfield, FileIndex, PieceIndex};
use riverrun_metainfo::{File, FileKind, Layout};
use riverrun_swarm::StorageFault;

use crate::backend::{Access, Backend, FileStat, Found, Place};
use crate::fault::fault;
use crate::ground::Site;
use crate::journal::{Claims, FileMark, Hold};
use crate::span::stored_slices;

/// What was found.
#[derive(Debug)]
pub(crate) struct Survey {
    /// Pieces to be believed.
    pub(crate) have: Bitfield,
    /// Pieces that may be there, but have to be hashed.
    pub(crate) unchecked: Bitfield,
    /// Pieces that the journal claims, and that are not to be believed.
    pub(crate) withdrawn: Vec<PieceIndex>,
    /// The device of the root directory, if it is there.
    pub(crate) device: Option<u64>,
    /// All files in place.
    pub(crate) files: BTreeMap<FileIndex, Seen>,
}

/// A file in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) stat: FileStat,
    pub(crate) trust: Trust,
}

/// How far a file is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It is as we left it.
    Ours,
    /// It was ours, and somebody else has changed it.
    Changed,
    /// We do not know it.
    Unknown,
}

/// Runs of data that are looked at in one file; past them all counts as data. Bounds the time that a file of
/// holes takes.
const RUNS_MAX: usize = 16_384;

/// Looks at the files of a torrent. Opens those only that are not as the journal has them, and creates nothing.
pub(crate) fn survey(
    backend: &dyn Backend,
    site: &Site,
    layout: &Layout,
    wanted: &[bool],
    claims: &Claims,
) -> Result<Survey, StorageFault> {
    let device = backend
        .device(&site.root)
        .map_err(|error| fault(&site.root, &error, 0))?;
    let mut files = BTreeMap::new();
    for (index, file) in stored_files(layout) {
        let place = site.place(file);
        let is_wanted = wanted.get(index.as_usize()).copied().unwrap_or(true);
        let found = if device.is_none() {
            Ok(Found::Nothing)
        } else {
            backend.look(place)
        };
        match found.map_err(|error| place.fault(&error, 0))? {
            Found::File(stat) => {
                files.insert(index, stat);
            }
            Found::Other(what) if is_wanted => return Err(place.conflict(what)),
            Found::Other(_) | Found::Nothing => {}
        }
    }
    check_volume(site, claims, device, &files)?;
    let same_device = device == claims.device;
    let mut seen = BTreeMap::new();
    for (index, stat) in files {
        let trust = trust(claims.files.get(&index), &stat, same_device);
        let file = &layout.files()[index.as_usize()];
        if trust == Trust::Unknown && stat.len > file.len && !site.options.overwrite {
            return Err(site.place(file).conflict(too_long(stat.len, file.len)));
        }
        seen.insert(index, Seen { stat, trust });
    }
    let mut survey = believe(layout, claims, &seen);
    for (index, _) in seen.iter().filter(|(_, it)| it.trust != Trust::Ours) {
        let file = &layout.files()[index.as_usize()];
        let place = site.place(file);
        let runs = data_runs(backend, place, file.len).map_err(|error| place.fault(&error, 0))?;
        mark_unchecked(layout, file, &runs, &seen, &mut survey);
    }
    Ok(Survey {
        device,
        files: seen,
        ..survey
    })
}

/// The files that have a place on the disk.
pub(crate) fn stored_files(layout: &Layout) -> impl Iterator<Item = (FileIndex, &File)> {
    let all = (0..).map(FileIndex).zip(layout.files());
    all.filter(|(_, file)| matches!(file.kind, FileKind::Regular))
}

pub(crate) fn too_long(found: u64, expected: u64) -> String {
    format!("a file of {found} bytes, longer than the torrent's {expected}")
}

/// A volume that is absent is not data that is absent.
fn check_volume(
    site: &Site,
    claims: &Claims,
    device: Option<u64>,
    files: &BTreeMap<FileIndex, FileStat>,
) -> Result<(), StorageFault> {
    let (Some(known), false) = (claims.device, claims.durable.none()) else {
        return Ok(());
    };
    // The number of a device may be another after a restart; then the files are still ours.
    let any_ours = || {
        claims.files.iter().any(|(index, mark)| {
            files
                .get(index)
                .is_some_and(|stat| stat.inode == mark.stat.inode)
        })
    };
    if device == Some(known) || (device.is_some() && any_ours()) {
        return Ok(());
    }
    Err(StorageFault::VolumeMissing {
        path: crate::fault::show(&site.root),
    })
}

/// How far a file is to be believed. Its times and length say nothing if we wrote to it afterwards; the inode alone
/// says nothing on another device.
fn trust(mark: Option<&FileMark>, stat: &FileStat, same_device: bool) -> Trust {
    let Some(mark) = mark.filter(|mark| mark.stat.inode == stat.inode) else {
        return Trust::Unknown;
    };
    let is_intact = match mark.hold {
        Hold::Writing => same_device,
        Hold::Exact => mark.stat.is_intact(stat),
        Hold::Foreign => false,
    };
    if is_intact {
        Trust::Ours
    } else {
        Trust::Changed
    }
}

/// Divides the claims into those to be believed and those not.
fn believe(layout: &Layout, claims: &Claims, files: &BTreeMap<FileIndex, Seen>) -> Survey {
    let none = Bitfield::new(layout.piece_count());
    let (mut have, mut unchecked, mut withdrawn) = (none.clone(), none, Vec::new());
    for piece in claims.durable.ones() {
        let ours = |file| files.get(&file).is_some_and(|it| it.trust == Trust::Ours);
        if is_in_place(layout, piece, files)
            && stored_slices(layout, piece).all(|slice| ours(slice.file))
        {
            have.set(piece);
        } else {
            withdrawn.push(piece);
        }
    }
    let written_or_withdrawn = claims.writing.ones().chain(withdrawn.iter().copied());
    for piece in written_or_withdrawn.filter(|piece| is_in_place(layout, *piece, files)) {
        unchecked.set(piece);
    }
    Survey {
        have,
        unchecked,
        withdrawn,
        device: None,
        files: BTreeMap::new(),
    }
}

/// Whether all files of a piece are there, and long enough for it.
fn is_in_place(layout: &Layout, piece: PieceIndex, files: &BTreeMap<FileIndex, Seen>) -> bool {
    stored_slices(layout, piece).all(|slice| {
        let end = slice.offset + u64::from(slice.len);
        let seen = files.get(&slice.file);
        seen.is_some_and(|it| it.stat.len >= end)
    })
}

/// Where a file has data, up to `len`.
fn data_runs(
    backend: &dyn Backend,
    place: Place<'_>,
    len: u64,
) -> io::Result<Vec<std::ops::Range<u64>>> {
    let file = backend.open(place, Access::Read)?;
    let mut runs = Vec::new();
    let mut at = 0;
    while let Some(run) = file.next_data(at)? {
        if run.start >= len {
            break;
        }
        if runs.len() == RUNS_MAX {
            runs.push(run.start..len);
            break;
        }
        at = run.end;
        runs.push(run.start..run.end.min(len));
    }
    Ok(runs)
}

fn mark_unchecked(
    layout: &Layout,
    file: &File,
    runs: &[std::ops::Range<u64>],
    files: &BTreeMap<FileIndex, Seen>,
    survey: &mut Survey,
) {
    let piece_len = u64::from(layout.nominal_piece_len());
    let index = |at: u64| u32::try_from((file.offset + at) / piece_len).unwrap_or(u32::MAX);
    for run in runs.iter().filter(|run| !run.is_empty()) {
        for piece in (index(run.start)..=index(run.end - 1)).map(PieceIndex) {
            if !survey.have.has(piece) && is_in_place(layout, piece, files) {
                survey.unchecked.set(piece);
            }
        }
    }
}
