//! A table's active files, found by deltalake from the log alone and read one after the other: a table of any size
//! is never in memory.

use deltalake::arrow::array::{Array, AsArray, RecordBatch};
use deltalake::arrow::error::ArrowError;
use deltalake::logstore::parquet_reader::ParquetObjectReader;
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use deltalake::{DeltaTable, DeltaTableBuilder};
use futures::TryStreamExt;
use object_store::path::Path;
use url::Url;

use super::ReadbackError;
use crate::checkpoint::SequenceNumberError;

/// What can be wrong with one batch, before table and file are known.
pub(super) enum BatchError {
    Column(&'static str, ArrowError),
    Number(SequenceNumberError),
}

/// A table's active files at its newest version; none, if there is no table.
pub(super) struct Files {
    url: Url,
    table: Option<(DeltaTable, Vec<Path>)>,
}

impl Files {
    pub async fn open(lake: &Url, name: &str) -> Result<Self, ReadbackError> {
        let location = |source| ReadbackError::Location { table: name.to_owned(), lake: lake.clone(), source };
        let url = lake.join(&format!("{name}/")).map_err(location)?;
        let failed = |source| ReadbackError::Log { table: url.clone(), source };
        let mut table = DeltaTableBuilder::from_url(url.clone()).and_then(DeltaTableBuilder::build).map_err(failed)?;
        if !table.verify_deltatable_existence().await.map_err(failed)? {
            return Ok(Self { url, table: None });
        }
        table.load().await.map_err(failed)?;
        let files = table.get_files_by_partitions(&[]).await.map_err(failed)?;
        Ok(Self { url, table: Some((table, files)) })
    }

    /// Hands every batch of these columns to `each`, with its file; says how many rows there were.
    pub async fn read(
        &self,
        columns: &[&str],
        mut each: impl FnMut(&Path, &RecordBatch) -> Result<(), BatchError>,
    ) -> Result<u64, ReadbackError> {
        let mut rows = 0;
        let Some((table, files)) = &self.table else { return Ok(rows) };
        for file in files {
            let failed = |source| ReadbackError::File { table: self.url.clone(), file: file.clone(), source };
            let reader = ParquetObjectReader::new(table.object_store(), file.clone());
            let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(failed)?;
            let projection = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
            let mut batches = builder.with_projection(projection).build().map_err(failed)?;
            while let Some(batch) = batches.try_next().await.map_err(failed)? {
                rows += batch.num_rows() as u64;
                each(file, &batch).map_err(|error| self.of_batch(file, error))?;
            }
        }
        Ok(rows)
    }

    fn of_batch(&self, file: &Path, error: BatchError) -> ReadbackError {
        let (table, file) = (self.url.clone(), file.clone());
        match error {
            BatchError::Column(column, source) => ReadbackError::Column { table, file, column, source },
            BatchError::Number(source) => ReadbackError::Number { table, source },
        }
    }
}

pub(super) fn column<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<&'a dyn Array, BatchError> {
    let missing = || BatchError::Column(name, ArrowError::SchemaError("it is missing".to_owned()));
    batch.column_by_name(name).map(|column| column.as_ref()).ok_or_else(missing)
}

/// A text column's values; a null reads as the empty text.
pub(super) fn text_column<'a>(
    batch: &'a RecordBatch,
    name: &'static str,
) -> Result<impl Iterator<Item = &'a str>, BatchError> {
    let column = column(batch, name)?;
    let texts = column.as_string_opt::<i32>().ok_or_else(|| wrong_type(name, column))?;
    Ok(texts.iter().map(Option::unwrap_or_default))
}

pub(super) fn wrong_type(name: &'static str, column: &dyn Array) -> BatchError {
    BatchError::Column(name, ArrowError::SchemaError(format!("it is {}", column.data_type())))
}
