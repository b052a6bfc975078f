"""All services of the gRPC server."""

import grpc

from protos.tutti.v1 import aggregations_pb2 as aggregations
from protos.tutti.v1 import aggregations_pb2_grpc as aggregations_grpc
from protos.tutti.v1 import eligibility_eval_tasks_pb2 as eligibility
from protos.tutti.v1 import eligibility_eval_tasks_pb2_grpc as eligibility_grpc
from protos.tutti.v1 import resources_pb2 as resources
from protos.tutti.v1 import resources_pb2_grpc as resources_grpc
from protos.tutti.v1 import secure_aggregations_pb2 as secure
from protos.tutti.v1 import secure_aggregations_pb2_grpc as secure_grpc
from protos.tutti.v1 import task_assignments_pb2 as assignments
from protos.tutti.v1 import task_assignments_pb2_grpc as assignments_grpc
from server.rpc.hosting import Host
from server.rpc.secure_servicer import SecureAggregations
from server.rpc.servicers import Aggregations, EligibilityEvalTasks, Front, Resources, Streams, TaskAssignments


def register(server: grpc.aio.Server, host: Host) -> tuple[str, ...]:
    """Adds all services to `server`; their full names."""
    front, streams = Front(host), Streams()
    eligibility_grpc.add_EligibilityEvalTasksServicer_to_server(EligibilityEvalTasks(front), server)
    assignments_grpc.add_TaskAssignmentsServicer_to_server(TaskAssignments(front), server)
    resources_grpc.add_ResourcesServicer_to_server(Resources(front), server)
    aggregations_grpc.add_AggregationsServicer_to_server(Aggregations(front, streams), server)
    secure_grpc.add_SecureAggregationsServicer_to_server(SecureAggregations(front, streams), server)
    files = (eligibility, assignments, resources, aggregations, secure)
    return tuple(service.full_name for file in files for service in file.DESCRIPTOR.services_by_name.values())
