//! A Parquet file that goes up into the store row group by row group: of rows that are encoded here, and of row groups of
//! other files.

use std::sync::Arc;

use bytes::Bytes;
use deltalake::arrow::array::RecordBatch;
use deltalake::arrow::datatypes::SchemaRef;
use deltalake::parquet::arrow::ArrowWriter;
use deltalake::parquet::arrow::arrow_writer::ArrowColumnWriter;
use deltalake::parquet::arrow::async_writer::AsyncFileWriter;
use deltalake::parquet::errors::Result;
use deltalake::parquet::file::metadata::ParquetMetaData;
use deltalake::parquet::file::writer::SerializedFileWriter;

use super::encode::{RowGroups, column_writers, properties, write_column};
use super::stats::Counts;
use super::stored_group::StoredGroup;
use super::upload::Upload;

/// A file on its way. What is in memory is the row group that is being filled and one part of the upload.
pub(crate) struct FileWriter {
    file: SerializedFileWriter<Vec<u8>>,
    schema: SchemaRef,
    upload: Upload,
    /// Of the row group that is being filled.
    group: Option<Vec<ArrowColumnWriter>>,
    ends: RowGroups,
    counts: Counts,
}

impl FileWriter {
    /// A file without rows.
    pub fn new(upload: Upload, schema: &SchemaRef) -> Result<Self> {
        // Row groups of other files come without the places of their pages, and all of a file's say them or none does.
        let properties = properties(schema, None)?.into_builder().set_offset_index_disabled(true).build();
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties))?;
        let (file, _) = writer.into_serialized_writer()?;
        let (ends, counts) = (RowGroups::default(), Counts::default());
        Ok(Self { file, schema: Arc::clone(schema), upload, group: None, ends, counts })
    }

    /// Bytes of the row groups that are finished.
    pub fn finished_bytes(&self) -> usize {
        self.file.bytes_written()
    }

    /// What the row group that is being filled will take, about: rather too much.
    pub fn unfinished_bytes(&self) -> usize {
        self.group.iter().flatten().map(ArrowColumnWriter::get_estimated_total_bytes).sum()
    }

    /// Adds rows.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        for (ends_group, piece) in self.ends.cut(batch) {
            if ends_group {
                self.end_group().await?;
            }
            self.encode(&piece)?;
        }
        self.counts.add(batch);
        Ok(())
    }

    fn encode(&mut self, rows: &RecordBatch) -> Result<()> {
        let writers = match self.group.as_mut() {
            Some(writers) => writers,
            None => self.group.insert(column_writers(&self.schema, rows, self.file.flushed_row_groups().len())?),
        };
        let columns = self.schema.fields().iter().zip(rows.columns());
        writers.iter_mut().zip(columns).try_for_each(|(writer, (field, values))| write_column(writer, field, values))
    }

    /// Adds a row group of another file, after the rows that are there.
    pub async fn copy(&mut self, stored: StoredGroup) -> Result<()> {
        self.end_group().await?;
        self.file.inner_mut().reserve(stored.bytes());
        let mut group = self.file.next_row_group()?;
        for (piece, column) in stored.columns() {
            group.append_column(piece, column)?;
        }
        group.close()?;
        self.counts.add_stored(stored.rows(), stored.nulls(&self.schema));
        // Its bytes are in the file now, and would be in memory twice while they go up.
        drop(stored);
        self.send().await
    }

    /// What comes next is another row group.
    pub async fn end_group(&mut self) -> Result<()> {
        let Some(writers) = self.group.take() else { return Ok(()) };
        self.ends = RowGroups::default();
        let chunks = writers.into_iter().map(ArrowColumnWriter::close).collect::<Result<Vec<_>>>()?;
        let bytes = chunks.iter().map(|chunk| chunk.close().bytes_written).sum::<u64>();
        self.file.inner_mut().reserve(usize::try_from(bytes).unwrap_or(0));
        let mut group = self.file.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()?;
        self.send().await
    }

    async fn send(&mut self) -> Result<()> {
        let finished = std::mem::take(self.file.inner_mut());
        self.upload.write(Bytes::from(finished)).await
    }

    /// Completes the file in the store.
    pub async fn finish(&mut self) -> Result<ParquetMetaData> {
        self.end_group().await?;
        let metadata = self.file.finish()?;
        self.send().await?;
        self.upload.complete().await?;
        Ok(metadata)
    }

    /// What was written of which rows, and to where.
    pub fn into_parts(self) -> (Upload, Counts) {
        (self.upload, self.counts)
    }
}
