"""From detections to tracks: an IMM bank and ByteTrack's association (DESIGN: detect -> track -> kinematics)."""
