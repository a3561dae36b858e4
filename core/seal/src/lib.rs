//! Sealing and opening of image bytes: sealed blocks, EROFS, dm-verity trees and ocicrypt layers.
