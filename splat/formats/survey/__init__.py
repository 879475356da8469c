"""Point clouds of surveys: LAS, LAZ, E57, PCD, text and .ply, as points to begin with and as clouds of balls."""

from splat.formats.survey.points import SurveyPoints, read_points

__all__ = ["SurveyPoints", "read_points"]
